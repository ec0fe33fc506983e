/* What the files of the native core share. Each offers a table of methods, which module.c puts together. */
#ifndef ENTRENAR_CORE_H
#define ENTRENAR_CORE_H

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000 /* one build for CPython 3.11 and all later ones (abi3) */
#include <Python.h>

#include <stdint.h>

extern PyMethodDef kernel_methods[]; /* kernels.c */

/* -- arrays.c: numpy's arrays by the buffer protocol; every type and shape is checked before use ---------------- */

/* A kernel takes at most so many arrays. */
#define MOST_ARRAYS 12

/* The arrays of one call. All are let go together, whatever went wrong. */
typedef struct {
    Py_buffer views[MOST_ARRAYS];
    int n;
} Arrays;

/* A table (n, k) of any strides; an array of one dimension is a table of one column. */
typedef struct {
    char *data;
    Py_ssize_t n, k, down, right; /* shape, and the strides in bytes */
} Table;

#define AT(type, table, i, j) (*(type *)((table).data + (i) * (table).down + (j) * (table).right))

/* The arguments by their kinds: d a table of float64, q of int64, b of bool, in capitals one that is written to;
 * f a number (double), i an integer (Py_ssize_t). False, with an exception set, where one is something else. */
int take(Arrays *arrays, PyObject *const *args, Py_ssize_t n_args, const char *kinds, ...);

void let_go(Arrays *arrays);

/* Whether there is a row of the state, of n places, for each of k columns; else an IndexError is set. */
int rows_fit(const Table *rows, Py_ssize_t k, Py_ssize_t n);

/* Whether all that are given have this shape; else a ValueError is set. */
int have_shape(Py_ssize_t n, Py_ssize_t k, int n_tables, ...);

#endif
