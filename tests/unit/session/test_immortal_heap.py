"""What becomes immortal, what stays as it was, and that the process behaves as before: in processes of their own."""

from __future__ import annotations

import subprocess
import sysconfig
from pathlib import Path

from tests.support.immortals import BEGIN, needs_immortals, run


@needs_immortals
def test_functions_classes_methods_and_constants_are_made_immortal() -> None:
    run("""
        class Base:
            number = 10**6 + int("1")
            def method(self, default=(1, "two")): return super().__init__()
            @property
            def prop(self): return 1
            @staticmethod
            def static(): return lambda: 3

        class Derived(Base):
            inherits = True

        text = "".join(["a", "b c"])
        def closure():
            cell = Base
            def inner(): return cell
            return inner
        inner = closure()
        search()
        for thing in (
            Base, Derived, Base.number, Base.method, Base.method.__code__, vars(Base)["prop"], Base.prop.fget,
            Base.static, text, inner, inner.__closure__[0], sys.modules["__main__"], globals(), str.join,
        ):
            assert immortal(thing), thing
    """)


@needs_immortals
def test_what_holds_what_may_have_to_end_stays_mortal() -> None:
    run("""
        class Plain: pass
        class Ends:
            def __del__(self): pass
        class Meta(type):
            def __del__(cls): pass

        instance = Plain()
        class HasFile: file = open("/dev/null")
        class HasInstance: instance = Plain()
        class Finalised(metaclass=Meta): pass
        class Inherits(HasInstance): pass
        class Deep: held = {"a": [(1, {"b": Ends()})]}
        def default(a=Plain()): pass
        def closure(held):
            def inner(): return held
            return inner
        inner = closure(HasFile.file)
        through = closure(inner)
        def attribute(): pass
        attribute.held = Ends()
        def generate(): yield 1
        generator = generate()
        data, large = ["".join(["x", "y z"])], "x" * 100000
        search()
        for thing in (
            instance, HasFile, HasFile.file, HasInstance, HasInstance.instance, Finalised, Inherits, Deep, default,
            inner, through, attribute, generator, data, data[0], large,
        ):
            assert not immortal(thing), thing
        assert immortal(Plain) and immortal(Ends) and immortal(generate)
        HasFile.file.close()
        del Finalised
    """)


#: Each opens the files whose names are in PLACES and leaves them open; `late` is called after the search.
_FILES = """
def new(name):
    file = open(f"{sys.argv[1]}/{name}", "w")
    file.write(name)
    return file

plain = new("module")
class Holds: file = new("class")
def default(file=new("default")): pass
def closure(file):
    def inner(): return file
    return inner
inner = closure(new("closure"))
class Later: pass
def function(): pass
def memory(cache={}): return cache
def cell():
    file = None
    def keep(new):
        nonlocal file
        file = new
    return keep
keep = cell()
class Says:
    def __del__(self): self.file.write("and by the end")
says = Says()

def late():
    Later.file = new("class given it later")
    function.file = new("function given it later")
    memory()["file"] = new("default given it later")
    keep(new("closure given it later"))
    says.file = new("end")
"""


@needs_immortals
def test_a_class_that_says_what_it_is_equal_to_is_not_asked() -> None:
    """As ``typing._UnionGenericAlias`` of Python 3.14, which warns then, and is equal to ``Union``."""
    run("""
        import typing
        class Meta(type):
            def __eq__(cls, other): raise AssertionError
            def __hash__(cls): return hash(typing.Generic)
        typing.Odd = Meta("Odd", (), {"__module__": "typing"})
        search()
    """)


@needs_immortals
def test_files_that_are_open_at_the_end_are_flushed(tmp_path: Path) -> None:
    found = []
    for search in ("", "search(); assert immortal(Later) and immortal(keep)"):
        folder = tmp_path / (search[:6] or "plain")
        folder.mkdir()
        run(f"{search}\nlate()", str(folder), begin=BEGIN + _FILES)
        found.append({path.name: path.read_text() for path in folder.iterdir()})
    plain, searched = found
    assert searched == plain
    assert all(text.startswith(name) for name, text in plain.items())
    assert len(plain) == 9
    assert plain["end"] == "endand by the end"


@needs_immortals
def test_instances_end_as_before_and_their_weak_references_are_called() -> None:
    plain, searched = (
        run(f"""
        class Ends:
            def __del__(self): print("ended", self.name)

        def make(name):
            ends = Ends()
            ends.name = name
            return ends

        def generate():
            try:
                yield 1
            finally:
                print("generator closed")

        before, at_exit = make("before"), make("at exit")
        generator = generate()
        next(generator)
        weak = weakref.ref(before, lambda _: print("weak reference called"))
        {search}
        del before, generator
        cycle = make("cycle")
        cycle.itself = cycle
        del cycle
        gc.collect()
        print("exit")
        """).splitlines()
        for search in ("", "search(); assert immortal(Ends) and immortal(generate)")
    )
    assert searched == plain
    assert sorted(plain[:4]) == ["ended before", "ended cycle", "generator closed", "weak reference called"]
    assert plain[4:] == ["exit", "ended at exit"]


@needs_immortals
def test_what_is_made_afterwards_is_counted_listed_and_collected() -> None:
    run("""
        class Known: pass
        def make():
            class Local: pass
            return Local
        search()
        class New: pass
        new, instance = New, Known()
        assert not immortal(New) and sys.getrefcount(instance) == 2
        copies = [instance] * 10
        assert sys.getrefcount(instance) == 12
        assert any(one is instance for one in gc.get_objects())
        weak = weakref.ref(make()), weakref.ref(New), weakref.ref(instance)
        instance.itself = instance
        del New, new, instance, copies
        gc.collect()
        assert [one() for one in weak] == [None, None, None]
        gc.collect()
        assert Known() and immortal(Known)
    """)


@needs_immortals
def test_classes_and_modules_can_still_be_deleted() -> None:
    run("""
        import types
        module = types.ModuleType("dropped")
        exec("class Dropped: pass\\ndef function(): return Dropped", vars(module))
        sys.modules["dropped"] = module
        class Mine: pass
        weak = weakref.ref(module.Dropped)
        search()
        del sys.modules["dropped"], module, Mine
        gc.collect()
        gc.collect()
        assert isinstance(weak()(), weak())  # it stays, and works
        assert weak().__module__ == "dropped"
        try:
            import dropped
        except ImportError:
            pass
        else:
            raise AssertionError
    """)


_OLD_EXTENSION = """
#define Py_LIMITED_API 0x03060000
#include <Python.h>

/* As the stable ABI of 3.6 has it: it knows of no immortal objects. */
static PyObject *count(PyObject *self, PyObject *args) {
  PyObject *object;
  long change;
  if (!PyArg_ParseTuple(args, "Ol", &object, &change)) return NULL;
  for (; change > 0; change--) ++*(volatile Py_ssize_t *)object;
  for (; change < 0; change++)
    if (--*(volatile Py_ssize_t *)object == 0) Py_FatalError("it would be deallocated");
  return PyLong_FromSsize_t(*(Py_ssize_t *)object);
}

static PyMethodDef methods[] = {{"count", count, METH_VARARGS, NULL}, {NULL}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "old", NULL, -1, methods};
PyMODINIT_FUNC PyInit_old(void) { return PyModule_Create(&definition); }
"""


@needs_immortals
def test_an_extension_that_knows_of_no_immortal_objects_may_count_a_million_references(tmp_path: Path) -> None:
    source, compiled = tmp_path / "old.c", tmp_path / "old.abi3.so"
    source.write_text(_OLD_EXTENSION)
    include = sysconfig.get_path("include")
    subprocess.run(["cc", "-shared", "-fPIC", f"-I{include}", "-o", str(compiled), str(source)], check=True)
    run(
        """
        sys.path.insert(0, sys.argv[1])
        import old
        class Counted: pass
        search()
        million = 10**6

        def use():
            for _ in range(1000):
                held = [Counted] * 1000
                del held
            gc.collect()

        for change in (million, -million, -million, million, 3 * million, -5 * million):
            old.count(Counted, change)
            use()
            assert old.count(Counted, 0) > 1 << 31  # far from 0, at which it would be deallocated
            assert isinstance(Counted(), Counted)
        """,
        str(tmp_path),
    )
