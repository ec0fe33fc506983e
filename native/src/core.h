/* What the files of the native core share. Each offers a table of methods, which module.c puts together. */
#ifndef ENTRENAR_CORE_H
#define ENTRENAR_CORE_H

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000 /* one build for CPython 3.11 and all later ones (abi3) */
#include <Python.h>

extern PyMethodDef kernel_methods[]; /* kernels.c */

/* The arrays of one call, by the buffer protocol; all are let go together. Their sizes have names of a letter. */
typedef struct {
    Py_buffer views[14];
    int n;
    Py_ssize_t sizes['Z' + 1];
} Arrays;

/* A table (n, k) of any strides; an array of one dimension is a table of one column. */
typedef struct {
    char *data;
    Py_ssize_t n, k, down, right; /* shape, and the strides in bytes */
} Table;

#define AT(type, table, i, j) (*(type *)((table).data + (i) * (table).down + (j) * (table).right))

/* Take the arguments as `kinds` says, for example "dNK rK1 DPW f i". A table is of float64 (d), int64 (q), bool (b),
 * in capitals one that is written to, or of int64 that are rows of tables of P rows (r); then come its two sizes:
 * the same letter is the same number (W at least 1), a digit is itself. W numbers in a row have no gaps.
 * Others are a double (f) or a Py_ssize_t (i). False, with an exception set, where one is something else. */
int take(Arrays *arrays, PyObject *const *args, Py_ssize_t n_args, const char *kinds, ...);

/* Let go of the arrays; None, or NULL where an exception is set. */
PyObject *finish(Arrays *arrays);

/* The types of record.c. */
int add_recording(PyObject *module);

#endif
