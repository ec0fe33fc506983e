/* Arrays: numpy's arrays by the buffer protocol. Every type, size and row is checked before a kernel begins. */
#include "core.h"

#include <ctype.h>
#include <stdarg.h>

/* For fewer values than this, letting go of Python's lock costs more than holding it. */
#define LET_GO_FROM 256

static int is_size(Arrays *arrays, char name, Py_ssize_t size)
{
    Py_ssize_t *known = &arrays->sizes[(int)name]; /* one more than it is; 0 is unknown */
    if (*known == 0)
        *known = isdigit(name) ? name - '0' + 1 : size + 1;
    return *known == size + 1 && (name != 'W' || size > 0);
}

static int take_table(Arrays *arrays, PyObject *object, const char *kind, Table *table)
{
    Py_buffer *view = &arrays->views[arrays->n];
    if (PyObject_GetBuffer(object, view, PyBUF_STRIDES | PyBUF_FORMAT | (isupper(*kind) ? PyBUF_WRITABLE : 0)) < 0)
        return 0;
    arrays->n++;
    const char *format = view->format != NULL ? view->format : "B", letter = (char)tolower(*kind);
    const char *formats = letter == 'd' ? "d" : letter == 'b' ? "?" : letter == 'o' ? "B" : "ql";
    if (strlen(format) != 1 || strchr(formats, *format) == NULL || view->ndim < 1 || view->ndim > 2) {
        PyErr_Format(PyExc_TypeError, "expected an array of type %s with 1 or 2 dimensions, got type %s with %d", formats,
                     format, view->ndim);
        return 0;
    }
    *table = (Table){view->buf, view->shape[0], 1, view->strides[0], 0};
    if (view->ndim == 2)
        table->k = view->shape[1], table->right = view->strides[1];
    if ((kind[2] == 'W' ? table->right : kind[2] == '1' && kind[1] == 'W' ? table->down : view->itemsize) != view->itemsize)
        PyErr_SetString(PyExc_ValueError, "expected rows of W numbers without gaps");
    if (is_size(arrays, kind[1], table->n) && is_size(arrays, kind[2], table->k))
        return 1;
    PyErr_Format(PyExc_ValueError, "expected an array of sizes %.2s as those before, got (%zd, %zd)", kind + 1, table->n,
                 table->k);
    return 0;
}

int take(Arrays *arrays, PyObject *const *args, Py_ssize_t n_args, const char *kinds, ...)
{
    const Table *rows = NULL;
    va_list targets;
    va_start(targets, kinds);
    for (; *kinds != 0 && n_args > 0 && PyErr_Occurred() == NULL; kinds += *kinds == ' ', n_args--) {
        PyObject *object = *args++;
        void *target = va_arg(targets, void *);
        const char *kind = kinds;
        kinds += strcspn(kinds, " ");
        if (*kind == 'f')
            *(double *)target = PyFloat_AsDouble(object);
        else if (*kind == 'i')
            *(Py_ssize_t *)target = PyLong_AsSsize_t(object);
        else if (take_table(arrays, object, kind, target) && *kind == 'r')
            rows = target;
    }
    va_end(targets);
    if (PyErr_Occurred() == NULL && (*kinds != 0 || n_args != 0))
        PyErr_SetString(PyExc_TypeError, "expected another number of arguments");
    for (Py_ssize_t i = 0; PyErr_Occurred() == NULL && rows != NULL && i < rows->n; i++)
        if (AT(int64_t, *rows, i, 0) < 0 || AT(int64_t, *rows, i, 0) >= arrays->sizes['P'] - 1)
            PyErr_SetString(PyExc_IndexError, "expected a row of the state for each column of the values");
    if (PyErr_Occurred() != NULL)
        return 0;
    if (arrays->sizes['N'] * arrays->sizes['K'] > LET_GO_FROM)
        arrays->released = PyEval_SaveThread();
    return 1;
}

PyObject *finish(Arrays *arrays)
{
    if (arrays->released != NULL)
        PyEval_RestoreThread(arrays->released);
    while (arrays->n > 0)
        PyBuffer_Release(&arrays->views[--arrays->n]);
    return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
}
