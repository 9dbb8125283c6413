/* Makes what never dies immortal (PEP 683), so that nobody writes its reference count any more:
 * docs/decisions/immortal-heap.md.
 *
 * Theory of operation. A forked child writes to a page of its own copy as soon as it counts a reference to an object
 * that lies there: functions, code, classes, constants. Since Python 3.12 the count of an object says whether it is
 * counted at all. Here it is set so for what is found from the modules on. Whatever an immortal object holds lives for
 * ever, too; so an object becomes immortal only if all that can be reached from it is of kinds that do no harm by that.
 * The search is depth first, takes for harmless what it is just looking at (a class and its methods hold one another),
 * and takes that back if it fails.
 *
 * The module is built for the stable ABI, which hides the layout of objects but for their head: 64 bits that have the
 * count, and the type. Of the count only the lower 32 bits are set; 3.14 has flags in the upper ones. Py_INCREF and
 * Py_DECREF as this ABI has them would count immortal objects as well, so none are used here. */
#include <Python.h>
#include <stdint.h>
#include <stdlib.h>

#include "core_api.h"

#define DEEPEST 400     /* objects that hold one another, on the way of one search */
#define DEEPEST_CLASS 3 /* classes in classes */
#define HELD_BY_CODE 5
#define MOST_HELD 5000  /* objects in an object that is spared */
#define MOST_FOUND 50000 /* objects in one search */
#define LONGEST 65536   /* characters or bytes: what is longer is data, and may be dropped */

/* In every Python since 3.4, but not in the stable ABI. */
extern void PyObject_CallFinalizer(PyObject *object);

/* What is known of an object. Those that are TO_MAKE and TO_SPARE hold no harm as far as the search has come. */
enum { UNKNOWN, TO_MAKE, TO_SPARE, HARMLESS, HARMFUL };

struct entry {
  const void *key;
  int value;
};

/* Open addressing, by address. */
struct table {
  struct entry *entries;
  size_t room, used; /* room is a power of two */
};

struct walk {
  uint32_t count; /* of an immortal object */
  struct table kinds; /* enum isolate_kind, by type */
  struct table states;
  PyTypeObject *ordinary; /* a class of classes that was made in Python */
  PyObject **found; /* by the search that is under way */
  size_t found_count, found_room;
  PyObject *code_holds[HELD_BY_CODE]; /* names of attributes */
  int depth, left, out_of_memory;
  long made;
};

static const char *const code_holds[] = {"co_consts", "co_names", "co_name", "co_qualname", "co_filename"};

static struct entry *find(const struct table *table, const void *key) {
  size_t at = ((uintptr_t)key >> 4) * 0x9E3779B97F4A7C15ULL >> 20;
  while (table->entries[at &= table->room - 1].key && table->entries[at].key != key) at++;
  return &table->entries[at];
}

static int grow(struct table *table) {
  struct table larger = {.room = table->room ? table->room * 2 : 1024, .used = table->used};
  larger.entries = calloc(larger.room, sizeof *larger.entries);
  if (!larger.entries) return -1;
  for (size_t i = 0; i < table->room; i++)
    if (table->entries[i].key) *find(&larger, table->entries[i].key) = table->entries[i];
  free(table->entries);
  *table = larger;
  return 0;
}

static int put(struct table *table, const void *key, int value) {
  if (table->used * 2 >= table->room && grow(table) < 0) return -1;
  struct entry *entry = find(table, key);
  table->used += !entry->key;
  *entry = (struct entry){key, value};
  return 0;
}

static int get(const struct table *table, const void *key) { return table->room ? find(table, key)->value : 0; }

/* ------------------------------------------------------------------------------------------------------ objects */

static uint64_t *count_of(PyObject *object) { return (uint64_t *)(void *)object; }

static int is_immortal(PyObject *object) { return (int32_t)*count_of(object) < 0; }

static void make_immortal(struct walk *walk, PyObject *object) {
  if (is_immortal(object)) return;
  *count_of(object) = (*count_of(object) & ~(uint64_t)UINT32_MAX) | walk->count;
  walk->made++;
}

static int is_class(PyObject *object) { return PyType_HasFeature(Py_TYPE(object), Py_TPFLAGS_TYPE_SUBCLASS); }

static int is_on_heap(PyObject *class) { return PyType_HasFeature((PyTypeObject *)class, Py_TPFLAGS_HEAPTYPE); }

/* Not a class whose own class finalises it, or has a deallocator of its own, as bindings to C++ have: they report
 * leaks. */
static int is_plain_class(const struct walk *walk, PyObject *object) {
  PyTypeObject *meta = Py_TYPE(object);
  if (meta == &PyType_Type) return 1;
  return !PyType_GetSlot(meta, Py_tp_finalize) && !PyType_GetSlot(meta, Py_tp_del) &&
         (PyType_GetSlot(meta, Py_tp_dealloc) == PyType_GetSlot(&PyType_Type, Py_tp_dealloc) ||
          PyType_GetSlot(meta, Py_tp_dealloc) == PyType_GetSlot(walk->ordinary, Py_tp_dealloc));
}

/* enum isolate_kind; 0: it does harm. */
static int kind_of(const struct walk *walk, PyObject *object) {
  PyTypeObject *type = Py_TYPE(object);
  int kind = get(&walk->kinds, type);
  if (kind & KIND_INSTANCES) kind = 0;
  int is_text = type == &PyUnicode_Type || type == &PyBytes_Type;
  if (kind && is_text && PyObject_Size(object) > LONGEST) return KIND_HARMLESS;
  if (kind) return kind;
  kind = KIND_HARMLESS | KIND_MADE | KIND_HOLDS;
  if (!is_class(object)) return get(&walk->kinds, Py_TYPE(type)) & KIND_INSTANCES ? kind : 0;
  if (!is_plain_class(walk, object)) return 0;
  return is_on_heap(object) ? kind : KIND_HARMLESS;
}

/* Visits what an object holds, until `visit` returns nonzero, and returns that. A class that is not on the heap can't
 * be asked. */
static int traverse(PyObject *object, visitproc visit, void *arg) {
  traverseproc traverse = (traverseproc)PyType_GetSlot(Py_TYPE(object), Py_tp_traverse);
  if (!traverse || (is_class(object) && !is_on_heap(object))) return 0;
  return traverse(object, visit, arg);
}

/* --------------------------------------------------------------------------------------------------- the search */

static int judge(struct walk *walk, PyObject *object, PyObject *holder);

struct visit {
  struct walk *walk;
  PyObject *holder;
};

static int visit(PyObject *object, void *arg) {
  struct visit *visit = arg;
  return object ? judge(visit->walk, object, visit->holder) : 0;
}

static int judge_dict(struct walk *walk, PyObject *dict) {
  PyObject *key, *value;
  Py_ssize_t at = 0;
  while (PyDict_Next(dict, &at, &key, &value))
    if (judge(walk, key, dict) || judge(walk, value, dict)) return 1;
  return 0;
}

/* Code is not known to the garbage collector. */
static int judge_code(struct walk *walk, PyObject *code) {
  int harm = 0;
  for (int i = 0; i < HELD_BY_CODE && !harm; i++) {
    PyObject *held = PyObject_GetAttr(code, walk->code_holds[i]);
    if (!held) PyErr_Clear();
    harm = held && judge(walk, held, code);
    Py_DecRef(held);
  }
  return harm;
}

/* Nonzero if what `object` holds does harm. */
static int judge_held(struct walk *walk, PyObject *object, int kind) {
  if (kind & KIND_CODE) return judge_code(walk, object);
  if (Py_TYPE(object) == &PyDict_Type) return judge_dict(walk, object);
  return traverse(object, visit, &(struct visit){walk, object});
}

static int note(struct walk *walk, PyObject *object, int state) {
  if (walk->found_count == walk->found_room) {
    size_t room = walk->found_room ? walk->found_room * 2 : 1024;
    PyObject **found = realloc(walk->found, room * sizeof *found);
    if (!found) return -1;
    walk->found = found;
    walk->found_room = room;
  }
  walk->found[walk->found_count++] = object;
  return put(&walk->states, object, state);
}

/* Nonzero if `object` does harm where it lives for ever. */
static int judge(struct walk *walk, PyObject *object, PyObject *holder) {
  if (is_immortal(object)) return 0;
  int state = get(&walk->states, object);
  if (state != UNKNOWN) return state == HARMFUL;
  int kind = walk->depth < DEEPEST && walk->left-- > 0 ? kind_of(walk, object) : 0;
  if (kind == KIND_HARMLESS) return 0;
  if (kind == (KIND_HARMLESS | KIND_MADE)) {
    make_immortal(walk, object);
    return 0;
  }
  /* A class's dict lives as long as the class; others may be replaced. */
  int made = kind & KIND_MADE || (holder && is_class(holder) && Py_TYPE(object) == &PyDict_Type);
  int harm = !kind || note(walk, object, made ? TO_MAKE : TO_SPARE) < 0;
  walk->depth++;
  harm = harm || judge_held(walk, object, kind);
  walk->depth--;
  if (harm && put(&walk->states, object, HARMFUL) < 0) walk->out_of_memory = 1;
  return harm;
}

/* Makes `object`, and what it holds, immortal, if that does no harm. */
static int search(struct walk *walk, PyObject *object) {
  walk->found_count = 0;
  walk->left = MOST_FOUND;
  int harm = judge(walk, object, NULL);
  for (size_t i = 0; i < walk->found_count; i++) {
    struct entry *found = find(&walk->states, walk->found[i]);
    if (found->value == HARMFUL || !found->key) continue; /* no key: there was no memory for it */
    if (!harm && found->value == TO_MAKE) make_immortal(walk, walk->found[i]);
    found->value = harm ? UNKNOWN : HARMLESS;
  }
  return harm;
}

struct inside {
  struct walk *walk;
  int deep; /* classes within classes */
  int left; /* objects to look at: what holds very many has data */
};

static void search_in(struct inside *inside, PyObject *object);

static int search_held(PyObject *object, void *arg) {
  struct inside *inside = arg;
  PyObject *key, *value;
  Py_ssize_t at = 0;
  if (--inside->left < 0) return 1;
  if (kind_of(inside->walk, object) & KIND_MADE) search_in(inside, object);
  else if (Py_TYPE(object) == &PyDict_Type)
    while (PyDict_Next(object, &at, &key, &value) && --inside->left >= 0)
      if (kind_of(inside->walk, value) & KIND_MADE) search_in(inside, value);
  return 0;
}

/* The methods of a class that is not on the heap; it is immortal from the beginning. */
static void search_static(struct inside *inside, PyObject *object) {
  PyObject *proxy = Py_TYPE(object) == &PyType_Type ? PyObject_GetAttrString(object, "__dict__") : NULL;
  if (!proxy) PyErr_Clear();
  else traverse(proxy, search_held, inside);
  Py_DecRef(proxy);
}

/* Where an object would do harm, the functions that it holds may not: a class's, or one that an object wraps. */
static void search_in(struct inside *inside, PyObject *object) {
  if (!search(inside->walk, object) || inside->deep == DEEPEST_CLASS) return;
  inside->deep++;
  traverse(object, search_held, inside);
  inside->deep--;
}

static void search_module(struct walk *walk, PyObject *module) {
  PyObject *key, *value;
  Py_ssize_t at = 0;
  PyObject *dict = PyModule_GetDict(module); /* borrowed */
  while (PyDict_Next(dict, &at, &key, &value)) {
    int kind = kind_of(walk, value);
    struct inside inside = {.walk = walk, .left = MOST_HELD};
    search(walk, key);
    /* What is a list or a dict may hold very much, is data, and may be dropped. */
    if (!kind || kind & KIND_MADE) search_in(&inside, value);
    if (is_class(value) && !is_on_heap(value)) search_static(&inside, value);
  }
}

/* What lasts anyway: the names and tuples that it holds may last, too. */
static void search_lasting(struct walk *walk, PyObject *object) {
  if (is_immortal(object)) return;
  make_immortal(walk, object);
  traverse(object, search_held, &(struct inside){.walk = walk, .left = MOST_HELD});
}

static int prepare(struct walk *walk, PyObject *types, const int *kinds) {
  if (grow(&walk->kinds) < 0 || grow(&walk->states) < 0) return -1;
  for (Py_ssize_t i = 0; i < PyList_Size(types); i++)
    if (put(&walk->kinds, PyList_GetItem(types, i), kinds[i]) < 0) return -1;
  for (int i = 0; i < HELD_BY_CODE; i++)
    if (!(walk->code_holds[i] = PyUnicode_FromString(code_holds[i]))) return -1;
  return 0;
}

static void clean_up(struct walk *walk) {
  PyErr_Clear();
  for (int i = 0; i < HELD_BY_CODE; i++) Py_DecRef(walk->code_holds[i]);
  free(walk->kinds.entries);
  free(walk->states.entries);
  free(walk->found);
}

/* `modules`, `types`, `lasting`: addresses of lists; `kinds` says of each type what its instances are. Returns how
 * many objects were made immortal. A call from cffi is without the GIL: here it is held all the time, so nobody counts
 * meanwhile. */
long isolate_make_immortal(uintptr_t modules, uintptr_t types, const int *kinds, uintptr_t lasting, uintptr_t ordinary,
                           uint32_t count) {
  struct walk walk = {.count = count, .ordinary = (PyTypeObject *)ordinary};
  PyGILState_STATE gil = PyGILState_Ensure();
  PyObject *list = (PyObject *)modules;
  walk.out_of_memory = prepare(&walk, (PyObject *)types, kinds) < 0;
  /* All of them first: what refers to a module's names is harmless, as the interpreter empties modules at its end. */
  for (Py_ssize_t i = 0; !walk.out_of_memory && i < PyList_Size(list); i++) {
    make_immortal(&walk, PyList_GetItem(list, i));
    make_immortal(&walk, PyModule_GetDict(PyList_GetItem(list, i)));
  }
  for (Py_ssize_t i = 0; !walk.out_of_memory && i < PyList_Size((PyObject *)lasting); i++)
    search_lasting(&walk, PyList_GetItem((PyObject *)lasting, i));
  for (Py_ssize_t i = 0; !walk.out_of_memory && i < PyList_Size(list); i++)
    search_module(&walk, PyList_GetItem(list, i));
  clean_up(&walk);
  PyGILState_Release(gil);
  return walk.made;
}

/* Has an object's __del__ called now, and so not when it is deallocated. */
void isolate_finalize(uintptr_t object) {
  PyGILState_STATE gil = PyGILState_Ensure();
  PyObject_CallFinalizer((PyObject *)object);
  PyGILState_Release(gil);
}

/* Whether the interpreter leaves an object's count alone that is `count`. */
int isolate_keeps_count(uint32_t count) {
  PyGILState_STATE gil = PyGILState_Ensure();
  PyObject *object = PyBytes_FromStringAndSize(NULL, 100);
  int kept = 0;
  if (object && *count_of(object) == 1) {
    *count_of(object) = count;
    Py_IncRef(object); /* functions of the interpreter; Py_INCREF would be ours */
    kept = *count_of(object) == count;
    *count_of(object) = count;
    Py_DecRef(object);
    kept = kept && *count_of(object) == count;
    *count_of(object) = 1;
  }
  Py_DecRef(object);
  PyErr_Clear();
  PyGILState_Release(gil);
  return kept;
}
