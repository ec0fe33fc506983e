/* What the files of the native core share. What each offers, module.c puts together. */
#pragma once

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000 /* one build for CPython 3.11 and all later ones (abi3) */
#include <Python.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

extern PyMethodDef kernel_methods[]; /* kernels.c */

/* The arrays of one call, by the buffer protocol; all are let go together. Their sizes have names of a letter. */
typedef struct {
    Py_buffer views[14];
    int n;
    Py_ssize_t sizes['Z' + 1];
    PyThreadState *released;
} Arrays;

/* A table (n, k) of any strides; an array of one dimension is a table of one column. */
typedef struct {
    char *data;
    Py_ssize_t n, k, down, right; /* shape, and the strides in bytes */
} Table;

#define AT(type, table, i, j) (*(type *)((table).data + (i) * (table).down + (j) * (table).right))

/* Take the arguments as `kinds` says, for example "dNK rK1 DPW f i". A table is of float64 (d), int64 (q), bool (b), bytes (o),
 * in capitals one that is written to, or of int64 that are rows of tables of P rows (r); then come its two sizes:
 * the same letter is the same number (W at least 1), a digit is itself. W numbers in a row have no gaps.
 * Others are a double (f) or a Py_ssize_t (i). False, with an exception set, where one is something else.
 * Else Python's lock is let go until `finish`: a step of the training need not wait for thousands of values. */
int take(Arrays *arrays, PyObject *const *args, Py_ssize_t n_args, const char *kinds, ...);

/* Take Python's lock again, and let go of the arrays; None, or NULL where an exception is set. */
PyObject *finish(Arrays *arrays);

#define NEW(type) ((void *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0))

typedef struct {
    PyObject_HEAD
    char *base;
    Py_ssize_t at, size; /* -1 and 0: closed */
    Py_buffer view;
} Writer;

/* The head last: until it is there, there is no record. */
static inline void complete(Writer *writer, uint64_t head, Py_ssize_t bytes)
{
    __atomic_store_n((uint64_t *)(writer->base + writer->at), head, __ATOMIC_RELEASE);
    writer->at += bytes;
}

extern PyType_Spec writer_spec; /* writer.c */

/* The types of record.c, and this one. */
int add_recording(PyObject *module);
