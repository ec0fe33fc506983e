/* Recording: one call of `log` or of a bound function is one record in the mapped segment.
 *
 * Whole or not at all: values are read and checked first, then the record is copied behind the last one, its head
 * last of all, and the position moves. Nothing of that runs code of Python's, so no thread, signal handler or garbage
 * collection comes in between. Whatever is unusual (a value of another type than those given, a coordinate out of
 * range, an unknown combination of names, no room, no writer) has written nothing and is handed, as it came, to the
 * reference in Python.
 *
 * A loop's step has thrown all of this out of the caches, and what a call costs is the lines and pages it touches:
 * so what it needs lies together, and little is called. */
#include "core.h"
#include <structmember.h>
#include <time.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "records are little-endian"
#endif

/* Both are exported by CPython 3.11, and of the stable ABI from 3.12 on; so is the flag. */
#if Py_LIMITED_API + 0 < 0x030c0000
#define Py_TPFLAGS_HAVE_VECTORCALL (1UL << 11)
typedef PyObject *(*vectorcallfunc)(PyObject *, PyObject *const *, size_t, PyObject *);
extern PyObject *PyObject_Vectorcall(PyObject *, PyObject *const *, size_t, PyObject *);
extern PyObject *PyVectorcall_Call(PyObject *, PyObject *, PyObject *);
#endif
#define NARGS(nargsf) ((Py_ssize_t)((nargsf) & ~((size_t)1 << (8 * sizeof(size_t) - 1))))

enum { HEAD, TIME, PLACE, STEP, VALUES, FIXED_WORDS }; /* words of a record; the last is its checksum */
enum { EPOCH, BATCH };                                 /* and then STEP - 1: which coordinate */
enum { LOOP = 1, BLOCK = 2 };                          /* who holds a step: `steps()`, a `with` block; or nobody */
#define LARGEST(which) ((which) < 2 ? 0xffffffffu : UINT64_MAX)
#define NONE 0xffff    /* no such argument */
#define FEW 64         /* values for which there is room on the stack */
#define SLOTS 8        /* call sites of `log` that are told by their names' address */
#define MAX_PLANS 4096 /* combinations and orders of names; then they are learnt anew */

/* -- where the loop is, and what calls of `log` are known ---------------------------------------------------- */

typedef struct {
    uint64_t head;
    uint16_t values;   /* metrics among the arguments */
    uint16_t place[3]; /* where epoch, batch and step are among them */
    uint16_t watched;  /* the one that stops the line where it is not finite */
} Plan;

typedef struct {
    PyObject_HEAD
    Writer *writer;    /* NULL, or something else (None): every call goes to the reference */
    uint64_t place[3]; /* epoch, batch, step */
    /* Of training steps: as in monitor/step_state.py, and heads of records without and with a number of samples. */
    uint64_t number, begun, holder, heads[2];
    unsigned long thread;
    double ready, arrived;
    char is_usual;
    PyTypeObject *types[4]; /* two whose values are plain numbers besides Python's own; Writer and Call */
    Py_ssize_t odd;        /* bits: of this coordinate the reference knows, which is no plain number */
    struct {
        PyObject *names;
        Plan plan;
    } slots[SLOTS];
    PyObject *plans; /* names -> bytes of a Plan, as `learn` has given them */
    PyObject *learn;
    Py_ssize_t era; /* what was learnt in an earlier one is forgotten */
    PyObject *kept; /* what the types and these names are borrowed from */
    PyObject *place_names[3];
} HotPath;

typedef struct {
    PyObject_HEAD
    vectorcallfunc call; /* `plain`, or while armed the one that takes the time */
    HotPath *path;
    uint64_t head; /* a bound function's; 0: it goes to the reference */
    Py_ssize_t values, watched;
    PyObject *reference;
    vectorcallfunc plain;
    PyObject *weak, *attributes; /* name, documentation and so on are the reference's (functools.update_wrapper) */
    long long calls;
    double mean_ns;
} Call;

/* As time.monotonic_ns; divided by 1e9 it is time.perf_counter. */
static inline uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Adler-32 of whole words. The sums fit: a record has less than 2**20 bytes. */
static inline uint64_t adler32(const uint64_t *words, Py_ssize_t count)
{
    const uint64_t bytes = 0x00ff00ff00ff00ff;
    uint64_t a = 1, b = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        uint64_t even = words[i] & bytes, odd = words[i] >> 8 & bytes;
        b += 8 * a + ((even * 0x0008000600040002 + odd * 0x0007000500030001) >> 48);
        a += ((even + odd) * 0x0001000100010001) >> 48;
    }
    return (b % 65521) << 16 | a % 65521;
}

static inline int number(HotPath *path, PyObject *value, double *to)
{
    PyTypeObject *type = Py_TYPE(value);
    if (type == &PyFloat_Type || type == path->types[0] || type == path->types[1])
        *to = PyFloat_AsDouble(value);
    else if (type == &PyLong_Type || type == &PyBool_Type)
        *to = PyLong_AsDouble(value);
    else
        return 0;
    if (*to != -1.0 || !PyErr_Occurred())
        return 1;
    PyErr_Clear(); /* too large for a float */
    return 0;
}

static inline int coordinate(PyObject *value, uint64_t largest, uint64_t *to)
{
    if (Py_TYPE(value) != &PyLong_Type)
        return 0;
    uint64_t given = PyLong_AsUnsignedLongLong(value);
    if (given == UINT64_MAX && PyErr_Occurred()) {
        PyErr_Clear();
        return 0;
    }
    if (given > largest)
        return 0;
    *to = given;
    return 1;
}

/* Write one record; 0: nothing was done, the reference is to. `places` are `values`, or apart from them. */
static inline int record(HotPath *path, const Plan *plan, PyObject *const *values, PyObject *const *places)
{
    Writer *writer = path->writer;
    Py_ssize_t words = FIXED_WORDS + plan->values;
    uint64_t few[FIXED_WORDS + FEW], *row = few, place[3];
    int is_good = 0;
    if (writer == NULL || Py_TYPE((PyObject *)writer) != path->types[2] || 8 * words > writer->size - writer->at ||
        (plan->values > FEW && (row = PyMem_Malloc(8 * words)) == NULL))
        return 0;
    for (int which = 0; which < 3; which++) {
        PyObject *given = plan->place[which] == NONE ? Py_None : places[plan->place[which]];
        place[which] = path->place[which];
        if (given == Py_None ? path->odd >> which & 1 : !coordinate(given, LARGEST(which), &place[which]))
            goto done;
    }
    row[TIME] = now_ns();
    uint64_t *to = row + VALUES, *const end = to + plan->values;
    for (Py_ssize_t i = 0; to < end; i++) {
        double value;
        if (values == places && (i == plan->place[0] || i == plan->place[1] || i == plan->place[2]))
            continue;
        if (!number(path, values[i], &value) || (i == plan->watched && value - value != 0))
            goto done;
        memcpy(to++, &value, 8);
    }
    row[HEAD] = plan->head;
    row[PLACE] = place[EPOCH] | place[BATCH] << 32;
    row[STEP] = place[STEP - 1];
    row[words - 1] = adler32(row, words - 1);
    uint64_t *at = (uint64_t *)(writer->base + writer->at);
    for (Py_ssize_t i = 1; i < words; i++)
        at[i] = row[i];
    complete(writer, row[HEAD], 8 * words);
    is_good = 1;
done:
    if (row != few)
        PyMem_Free(row);
    return is_good;
}

static PyObject *forget(HotPath *path, PyObject *Py_UNUSED(none))
{
    path->era++;
    for (int i = 0; i < SLOTS; i++)
        Py_CLEAR(path->slots[i].names);
    if (path->plans != NULL)
        PyDict_Clear(path->plans);
    Py_RETURN_NONE;
}

/* The plan of these names: 1; none is known: 0; -1: somebody raised who came in while it was asked for. */
static int find(HotPath *path, PyObject *names, Plan *plan)
{
    for (Py_ssize_t i = PyTuple_Size(names); i-- > 0;)
        if (!PyUnicode_CheckExact(PyTuple_GetItem(names, i))) /* comparing it could run anything */
            return 0;
    if (path->writer == NULL || path->plans == NULL)
        return 0;
    PyObject *entry = PyDict_GetItemWithError(path->plans, names);
    if (entry != NULL) {
        memcpy(plan, PyBytes_AsString(entry), sizeof *plan);
        return 1;
    }
    if (PyDict_Size(path->plans) >= MAX_PLANS)
        Py_DECREF(forget(path, NULL));
    Py_ssize_t era = path->era;
    if (PyErr_Occurred() || (entry = PyObject_CallFunctionObjArgs(path->learn, names, NULL)) == NULL)
        return -1;
    int is_known = path->era == era && path->plans != NULL && PyBytes_Check(entry) && PyBytes_Size(entry) == sizeof *plan;
    if (is_known)
        memcpy(plan, PyBytes_AsString(entry), sizeof *plan);
    if (is_known && PyDict_SetItem(path->plans, names, entry) < 0)
        is_known = -1;
    Py_DECREF(entry);
    return is_known;
}

/* Likewise, of names that are the same object for each call from one place of a program. */
static int find_kept(HotPath *path, PyObject *names, const Plan **found)
{
    size_t slot = ((size_t)names >> 4 ^ (size_t)names >> 9) % SLOTS;
    *found = &path->slots[slot].plan;
    if (path->slots[slot].names == names)
        return 1;
    Plan plan;
    int is_known = find(path, names, &plan);
    if (is_known == 1) {
        PyObject *before = path->slots[slot].names;
        path->slots[slot].names = Py_NewRef(names);
        path->slots[slot].plan = plan;
        Py_XDECREF(before);
    }
    return is_known;
}

/* `log({...})`, as `find`: of a copy, which nobody changes meanwhile. */
static int record_dict(HotPath *path, PyObject *given)
{
    PyObject *copy = PyDict_Copy(given), *names = copy == NULL ? NULL : PySequence_Tuple(copy), *few[FEW], **row = few;
    Py_ssize_t count = names == NULL ? 0 : PyTuple_Size(names), at = 0, i = 0;
    Plan plan;
    int is_done = names == NULL ? -1 : find(path, names, &plan);
    if (is_done == 1) { /* unless a coordinate is among the names, which is a metric's here */
        is_done = plan.values == count && (count <= FEW || (row = PyMem_Malloc(count * sizeof *row)) != NULL);
        while (is_done && i < count && PyDict_Next(copy, &at, NULL, &row[i]))
            i++;
        is_done = is_done && record(path, &plan, row, NULL);
    }
    PyMem_Free(row == few ? NULL : row);
    Py_XDECREF(names);
    Py_XDECREF(copy);
    return is_done;
}

/* -- Call: what stands for a function of Python's, and is one for whoever asks -------------------------------- */

static PyObject *refer(Call *self, PyObject *const *args, size_t nargsf, PyObject *names)
{
    if (self->reference == NULL) /* the garbage collector has been here */
        Py_RETURN_NONE;
    return PyObject_Vectorcall(self->reference, args, nargsf, names);
}

static PyObject *call_log(PyObject *object, PyObject *const *args, size_t nargsf, PyObject *names)
{
    HotPath *path = ((Call *)object)->path;
    if (path != NULL && path->writer != NULL) {
        const Plan *plan;
        int is_done = 0;
        if (names != NULL && NARGS(nargsf) == 0)
            is_done = (is_done = find_kept(path, names, &plan)) == 1 ? record(path, plan, args, args) : is_done;
        else if (names == NULL && NARGS(nargsf) == 1 && Py_TYPE(args[0]) == &PyDict_Type)
            is_done = record_dict(path, args[0]);
        if (is_done)
            return is_done < 0 ? NULL : Py_NewRef(Py_None);
    }
    return refer((Call *)object, args, nargsf, names);
}

static PyObject *call_bound(PyObject *object, PyObject *const *args, size_t nargsf, PyObject *names)
{
    Call *self = (Call *)object;
    if (self->path != NULL && self->head != 0 && NARGS(nargsf) == self->values) {
        Plan plan = {self->head, (uint16_t)self->values, {NONE, NONE, NONE}, (uint16_t)self->watched};
        Py_ssize_t known = 0, given = names == NULL ? 0 : PyTuple_Size(names);
        for (Py_ssize_t i = 0; i < given; i++)
            for (int which = 0; which < 3; which++)
                if (PyTuple_GetItem(names, i) == self->path->place_names[which])
                    plan.place[which] = (uint16_t)i, known++;
        if (known == given && record(self->path, &plan, args, args + self->values))
            Py_RETURN_NONE;
    }
    return refer(self, args, nargsf, names);
}

/* Whether a coordinate is what comes anyway, or not given; half of what fits can be given. */
static inline int follows(PyObject *given, uint64_t next, uint64_t largest)
{
    uint64_t at;
    return given == Py_None || (coordinate(given, largest / 2, &at) && at == next);
}

/* A training step begins, as StepBoundary has it. `values` is its holder; of a `with` block, that is the argument.
 * Callbacks of frameworks give three: no epoch, and a batch and a step that are counted as here. */
static PyObject *call_begin(PyObject *object, PyObject *const *args, size_t nargsf, PyObject *names)
{
    Call *self = (Call *)object;
    HotPath *path = self->path;
    Py_ssize_t given = NARGS(nargsf);
    unsigned long me = PyThread_get_thread_ident();
    if (names != NULL || path == NULL || !path->is_usual || path->odd & 6 || path->begun > LARGEST(BATCH) ||
        path->thread != (self->values == LOOP ? me : 0) ||
        (given != 3 || self->values ? given != (self->values == BLOCK) : args[0] != Py_None ||
         !follows(args[1], path->begun, LARGEST(BATCH)) || !follows(args[2], path->number, UINT64_MAX)))
        return refer(self, args, nargsf, names);
    path->arrived = (double)now_ns() / 1e9, path->thread = me;
    path->holder = given == 1 ? (uintptr_t)args[0] : (uint64_t)self->values;
    path->place[BATCH] = path->begun++;
    path->place[STEP - 1] = path->number;
    Py_RETURN_NONE;
}

/* It ends, and its times are recorded. */
static PyObject *call_end(PyObject *object, PyObject *const *args, size_t nargsf, PyObject *names)
{
    Call *self = (Call *)object;
    HotPath *path = self->path;
    Py_ssize_t given = NARGS(nargsf);
    uint64_t holder = given == 2 ? (uintptr_t)args[1] : (uint64_t)self->values;
    if (names != NULL || path == NULL || !path->is_usual || path->holder != holder || isnan(path->ready + path->arrived) ||
        path->thread != PyThread_get_thread_ident())
        return refer(self, args, nargsf, names);
    const double done = (double)now_ns() / 1e9;
    PyObject *values[] = {PyFloat_FromDouble(done - path->ready), PyFloat_FromDouble(path->arrived - path->ready),
                          given == 0 ? Py_None : args[0]};
    const int has_size = values[2] != Py_None;
    const Plan plan = {path->heads[has_size], (uint16_t)(2 + has_size), {NONE, NONE, NONE}, NONE};
    int is_done = values[0] != NULL && values[1] != NULL && plan.head != 0 && record(path, &plan, values, NULL);
    Py_XDECREF(values[0]);
    Py_XDECREF(values[1]);
    if (!is_done)
        return refer(self, args, nargsf, names);
    path->number++;
    path->ready = done;
    if (self->values != LOOP)
        path->thread = path->holder = 0, path->arrived = NAN;
    Py_RETURN_NONE;
}

/* While armed: the next call is timed, as real as it is. */
static PyObject *call_timed(PyObject *object, PyObject *const *args, size_t nargsf, PyObject *names)
{
    Call *self = (Call *)object;
    self->call = self->plain;
    uint64_t start = now_ns();
    PyObject *result = self->plain(object, args, nargsf, names);
    double took = (double)(now_ns() - start);
    self->mean_ns = self->calls++ ? 0.8 * self->mean_ns + 0.2 * took : took;
    return result;
}

static PyObject *call_arm(Call *self, PyObject *is_armed)
{
    self->call = PyObject_IsTrue(is_armed) == 1 ? call_timed : self->plain;
    Py_RETURN_NONE;
}

static int call_traverse(Call *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE((PyObject *)self));
    Py_VISIT(self->path);
    Py_VISIT(self->reference);
    Py_VISIT(self->attributes);
    return 0;
}

static int call_clear(Call *self)
{
    Py_CLEAR(self->path);
    Py_CLEAR(self->reference);
    Py_CLEAR(self->attributes);
    return 0;
}

static void call_dealloc(Call *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    PyObject_GC_UnTrack(self);
    if (self->weak != NULL)
        PyObject_ClearWeakRefs((PyObject *)self);
    call_clear(self);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyMethodDef call_methods[] = {
    {"arm", (PyCFunction)call_arm, METH_O, "Time the next call, or no call."},
    {NULL, NULL, 0, NULL},
};
static PyMemberDef call_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(Call, call), READONLY, NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(Call, weak), READONLY, NULL},
    {"__dictoffset__", T_PYSSIZET, offsetof(Call, attributes), READONLY, NULL},
    {"head", T_ULONGLONG, offsetof(Call, head), 0, "Of a bound function's layout; 0: every call goes to the reference."},
    {"calls", T_LONGLONG, offsetof(Call, calls), READONLY, "How many calls were timed."},
    {"mean_ns", T_DOUBLE, offsetof(Call, mean_ns), 0, "What they took, as an exponential mean."},
    {NULL, 0, 0, 0, NULL},
};
static PyType_Slot call_slots[] = {
    {Py_tp_dealloc, call_dealloc},   {Py_tp_traverse, call_traverse}, {Py_tp_clear, call_clear},
    {Py_tp_call, PyVectorcall_Call}, {Py_tp_methods, call_methods},   {Py_tp_members, call_members},
    {0, NULL},
};
static PyType_Spec call_spec = {"entrenar_native._core.Call", sizeof(Call), 0,
                                Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL, call_slots};

/* -- HotPath: what the calls of one recorder share ------------------------------------------------------------ */

/* HotPath(learn, (float64, float32, Writer, Call, "epoch", "batch", "step")): interned names. */
static PyObject *hot_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kwargs))
{
    PyObject *learn, *kept;
    HotPath *self = PyArg_ParseTuple(args, "OO!", &learn, &PyTuple_Type, &kept) ? NEW(type) : NULL;
    if (self == NULL)
        return NULL;
    self->learn = Py_NewRef(learn);
    self->kept = Py_NewRef(kept);
    for (int i = 0; i < 4; i++)
        self->types[i] = (PyTypeObject *)PyTuple_GetItem(kept, i);
    for (int which = 0; which < 3; which++) {
        self->place[which] = LARGEST(which);
        self->place_names[which] = PyTuple_GetItem(kept, 4 + which);
    }
    self->plans = PyDict_New();
    self->ready = self->arrived = NAN;
    if (PyErr_Occurred())
        Py_CLEAR(self);
    return (PyObject *)self;
}

static int hot_traverse(HotPath *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE((PyObject *)self));
    Py_VISIT(self->learn);
    Py_VISIT(self->plans);
    Py_VISIT(self->kept);
    return 0;
}

static int hot_clear(HotPath *self)
{
    Py_DECREF(forget(self, NULL));
    Py_CLEAR(self->writer);
    Py_CLEAR(self->learn);
    Py_CLEAR(self->plans);
    return 0;
}

static void hot_dealloc(HotPath *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    PyObject_GC_UnTrack(self);
    hot_clear(self);
    Py_XDECREF(self->kept);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

/* call(reference, values=0, watched=-1): a `log`, or a function bound to so many values;
 * call(reference, holder, -1, "begin" or "end"): what does that with a training step. */
static PyObject *hot_call(HotPath *self, PyObject *args)
{
    PyObject *reference;
    Py_ssize_t values = 0, watched = -1;
    const char *kind = "";
    Call *made = PyArg_ParseTuple(args, "O|nns", &reference, &values, &watched, &kind) ? NEW(self->types[3]) : NULL;
    if (made == NULL)
        return NULL;
    made->path = (HotPath *)Py_NewRef((PyObject *)self);
    made->reference = Py_NewRef(reference);
    made->plain = *kind == 'b' ? call_begin : *kind == 'e' ? call_end : values ? call_bound : call_log;
    made->call = made->plain;
    made->values = values;
    made->watched = watched;
    return (PyObject *)made;
}

static PyObject *hot_put(HotPath *self, PyObject *args)
{
    int which;
    PyObject *value;
    if (!PyArg_ParseTuple(args, "iO", &which, &value))
        return NULL;
    int is_odd = which < 0 || which > 2 || !coordinate(value, LARGEST(which), &self->place[which]);
    self->odd = is_odd ? self->odd | 1 << which : self->odd & ~(1 << which);
    return PyBool_FromLong(!is_odd);
}

/* one(head, epoch, batch, step, value): a record of one value; False: nothing was done. */
static PyObject *hot_one(HotPath *self, PyObject *const *args, Py_ssize_t count)
{
    Plan plan = {0, 1, {0, 1, 2}, NONE};
    int is_done = count == 5 && coordinate(args[0], UINT64_MAX, &plan.head) && record(self, &plan, args + 4, args + 1);
    return PyBool_FromLong(is_done);
}

static PyMethodDef hot_methods[] = {
    {"call", (PyCFunction)hot_call, METH_VARARGS, "A `log` with this reference, or a function bound to so many values."},
    {"put", (PyCFunction)hot_put, METH_VARARGS, "Take a coordinate; False: it is no plain number, and the reference's."},
    {"one", (PyCFunction)(void (*)(void))hot_one, METH_FASTCALL, "Write a record of one value; False: nothing was done."},
    {"forget", (PyCFunction)forget, METH_NOARGS, "Learn anew which calls are known."},
    {NULL, NULL, 0, NULL},
};
static PyMemberDef hot_members[] = {
    {"epoch", T_ULONGLONG, offsetof(HotPath, place[0]), READONLY, NULL},
    {"batch", T_ULONGLONG, offsetof(HotPath, place[1]), READONLY, NULL},
    {"step", T_ULONGLONG, offsetof(HotPath, place[2]), READONLY, NULL},
    {"number", T_ULONGLONG, offsetof(HotPath, number), 0, NULL},
    {"begun", T_ULONGLONG, offsetof(HotPath, begun), 0, NULL},
    {"holder", T_ULONGLONG, offsetof(HotPath, holder), 0, NULL},
    {"thread", T_ULONG, offsetof(HotPath, thread), 0, NULL},
    {"ready", T_DOUBLE, offsetof(HotPath, ready), 0, NULL},
    {"arrived", T_DOUBLE, offsetof(HotPath, arrived), 0, NULL},
    {"timed_head", T_ULONGLONG, offsetof(HotPath, heads[0]), 0, NULL},
    {"counted_head", T_ULONGLONG, offsetof(HotPath, heads[1]), 0, NULL},
    {"is_usual", T_BOOL, offsetof(HotPath, is_usual), 0, NULL},
    {"writer", T_OBJECT, offsetof(HotPath, writer), 0, "Where records go; None: every call goes to the reference."},
    {NULL, 0, 0, 0, NULL},
};
static PyType_Slot hot_slots[] = {
    {Py_tp_new, hot_new},     {Py_tp_dealloc, hot_dealloc}, {Py_tp_traverse, hot_traverse},
    {Py_tp_clear, hot_clear}, {Py_tp_methods, hot_methods}, {Py_tp_members, hot_members},
    {0, NULL},
};
static PyType_Spec hot_spec = {"entrenar_native._core.HotPath", sizeof(HotPath), 0,
                               Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, hot_slots};

int add_recording(PyObject *module)
{
    PyType_Spec *const specs[] = {&writer_spec, &call_spec, &hot_spec};
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) {
        PyObject *type = PyType_FromModuleAndSpec(module, specs[i], NULL);
        int status = type == NULL ? -1 : PyModule_AddType(module, (PyTypeObject *)type);
        Py_XDECREF(type);
        if (status < 0)
            return -1;
    }
    return 0;
}
