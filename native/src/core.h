/* What the files of the native core share. Each offers a table of methods, which module.c puts together. */
#ifndef ENTRENAR_CORE_H
#define ENTRENAR_CORE_H

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000 /* one build for CPython 3.11 and all later ones (abi3) */
#include <Python.h>

#endif
