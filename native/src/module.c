/* entrenar_native._core: the module. What is in it stands in the other files. */
#include "core.h"

/* To be raised, here and in entrenar_native/__init__.py, when what Python calls changes. */
#define INTERFACE 4

static int execute(PyObject *module)
{
    if (add_recording(module) < 0 || PyModule_AddIntConstant(module, "INTERFACE", INTERFACE) < 0)
        return -1;
    /* hatch_build.py gives the digest of the sources */
    return PyModule_AddStringConstant(module, "SOURCES", "entrenar sources " ENTRENAR_SOURCES);
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, (void *)execute}, {0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "entrenar_native._core",
    .m_doc = "The native core: the same results as the Python code, to the bit, in less time.",
    .m_methods = kernel_methods,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__core(void)
{
    return PyModuleDef_Init(&definition);
}
