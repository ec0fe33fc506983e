#include "core.h"

#include <stdarg.h>
#include <string.h>

static int is_of(const Py_buffer *view, char kind)
{
    const char *format = view->format != NULL ? view->format : "B";
    if (strlen(format) != 1 || view->ndim < 1 || view->ndim > 2)
        return 0;
    if (kind == 'b')
        return *format == '?' && view->itemsize == 1;
    return view->itemsize == 8 && (kind == 'd' ? *format == 'd' : *format == 'q' || *format == 'l');
}

static int take_table(Arrays *arrays, PyObject *object, char kind, int writable, Table *table)
{
    if (arrays->n == MOST_ARRAYS) {
        PyErr_SetString(PyExc_SystemError, "more arrays than a kernel may take");
        return 0;
    }
    Py_buffer *view = &arrays->views[arrays->n];
    if (PyObject_GetBuffer(object, view, PyBUF_STRIDES | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0)) < 0)
        return 0;
    arrays->n++;
    if (!is_of(view, kind)) {
        PyErr_Format(PyExc_TypeError, "expected an array of kind %c with 1 or 2 dimensions, got kind %s with %d",
                     kind, view->format != NULL ? view->format : "B", view->ndim);
        return 0;
    }
    table->data = view->buf;
    table->n = view->shape[0];
    table->down = view->strides[0];
    table->k = view->ndim == 2 ? view->shape[1] : 1;
    table->right = view->ndim == 2 ? view->strides[1] : 0;
    return 1;
}

int take(Arrays *arrays, PyObject *const *args, Py_ssize_t n_args, const char *kinds, ...)
{
    int is_taken = n_args == (Py_ssize_t)strlen(kinds);
    if (!is_taken)
        PyErr_Format(PyExc_TypeError, "expected %d arguments, got %zd", (int)strlen(kinds), n_args);
    va_list targets;
    va_start(targets, kinds);
    for (Py_ssize_t i = 0; is_taken && i < n_args; i++) {
        void *target = va_arg(targets, void *);
        if (kinds[i] == 'f')
            *(double *)target = PyFloat_AsDouble(args[i]);
        else if (kinds[i] == 'i')
            *(Py_ssize_t *)target = PyLong_AsSsize_t(args[i]);
        else if (kinds[i] >= 'a')
            take_table(arrays, args[i], kinds[i], 0, target);
        else
            take_table(arrays, args[i], (char)(kinds[i] - 'A' + 'a'), 1, target);
        is_taken = PyErr_Occurred() == NULL;
    }
    va_end(targets);
    return is_taken;
}

void let_go(Arrays *arrays)
{
    while (arrays->n > 0)
        PyBuffer_Release(&arrays->views[--arrays->n]);
}

int rows_fit(const Table *rows, Py_ssize_t k, Py_ssize_t n)
{
    int fit = rows->n == k && rows->k == 1;
    for (Py_ssize_t i = 0; fit && i < k; i++)
        fit = AT(int64_t, *rows, i, 0) >= 0 && AT(int64_t, *rows, i, 0) < n;
    if (!fit)
        PyErr_SetString(PyExc_IndexError, "expected a row of the state for each column of the values");
    return fit;
}

int have_shape(Py_ssize_t n, Py_ssize_t k, int n_tables, ...)
{
    int have = 1;
    va_list tables;
    va_start(tables, n_tables);
    for (int i = 0; i < n_tables; i++) {
        const Table *table = va_arg(tables, const Table *);
        have = have && table->n == n && table->k == k;
    }
    va_end(tables);
    if (!have)
        PyErr_Format(PyExc_ValueError, "expected arrays of shape (%zd, %zd), got another", n, k);
    return have;
}
