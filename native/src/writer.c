/* Writer: the bytes of a segment, and where the next record goes. */
#include "core.h"

#include <structmember.h>

static PyObject *writer_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kwargs))
{
    PyObject *map;
    Writer *self = PyArg_ParseTuple(args, "O:Writer", &map) ? NEW(type) : NULL;
    if (self != NULL && PyObject_GetBuffer(map, &self->view, PyBUF_WRITABLE) < 0)
        Py_CLEAR(self);
    if (self != NULL)
        self->base = self->view.buf, self->size = self->view.len;
    return (PyObject *)self;
}

static PyObject *writer_close(Writer *self, PyObject *Py_UNUSED(none))
{
    self->base = NULL;
    self->at = -1;
    self->size = 0;
    PyBuffer_Release(&self->view);
    Py_RETURN_NONE;
}

static void writer_dealloc(Writer *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    PyBuffer_Release(&self->view);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyObject *writer_write(Writer *self, PyObject *record)
{
    Py_buffer given;
    if (PyObject_GetBuffer(record, &given, PyBUF_SIMPLE) < 0)
        return NULL;
    Py_ssize_t bytes = given.len;
    const char *problem = self->base == NULL ? "the writer is closed" : bytes % 8 ? "a record has whole words" :
                          bytes > self->size - self->at ? "data out of range" : NULL;
    if (problem == NULL && bytes > 0) {
        uint64_t head;
        memcpy(&head, given.buf, 8);
        memcpy(self->base + self->at + 8, (char *)given.buf + 8, bytes - 8);
        complete(self, head, bytes);
    }
    PyBuffer_Release(&given);
    return problem == NULL ? PyLong_FromSsize_t(bytes) : PyErr_Format(PyExc_ValueError, problem);
}

static PyMethodDef writer_methods[] = {
    {"write", (PyCFunction)writer_write, METH_O, "Append whole words, all or none. Raises ValueError where there is no room."},
    {"close", (PyCFunction)writer_close, METH_NOARGS, "Let go of the buffer; there is no room any more."},
    {NULL, NULL, 0, NULL},
};
static PyMemberDef writer_members[] = {
    {"at", T_PYSSIZET, offsetof(Writer, at), 0, "Where the next record will be; -1: closed. Of whole words."},
    {NULL, 0, 0, 0, NULL},
};
static PyType_Slot writer_slots[] = {{Py_tp_new, writer_new},         {Py_tp_dealloc, writer_dealloc},
                                     {Py_tp_methods, writer_methods}, {Py_tp_members, writer_members}, {0, NULL}};
PyType_Spec writer_spec = {"entrenar_native._core.Writer", sizeof(Writer), 0, Py_TPFLAGS_DEFAULT, writer_slots};
