"""Scan of a file of torch.save for what it asks for, before torch reads it.

torch's restricted unpickler runs no code of a file's, but it lets a file ask for memory that has
nothing to do with its size (``bytearray(10**10)``, a storage of so many elements, a dictionary made
of another one again and again). So the pickle is first run against stand-ins: a stand-in does
nothing but look at its arguments. Only the opcodes that torch.save writes are known.
"""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

# Of protocol 2, in which torch.save writes: constants, containers, the memo, globals and calls.
_OPCODES = (
    *(pickle.PROTO, pickle.STOP, pickle.MARK, pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE),
    *(pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG1, pickle.BINFLOAT),
    *(pickle.BINUNICODE, pickle.SHORT_BINSTRING, pickle.BINSTRING),
    *(pickle.EMPTY_DICT, pickle.SETITEM, pickle.SETITEMS),
    *(pickle.EMPTY_LIST, pickle.APPEND, pickle.APPENDS),
    *(pickle.EMPTY_TUPLE, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3),
    *(pickle.BINPUT, pickle.LONG_BINPUT, pickle.BINGET, pickle.LONG_BINGET),
    *(pickle.GLOBAL, pickle.REDUCE, pickle.BUILD, pickle.BINPERSID),
)
_STORAGES = ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
_NUMPY = ("numpy.core.multiarray", "numpy._core.multiarray")
_LONGEST_SCALAR = 64
_OLD_FORMAT_PICKLES = 5  # magic number, protocol, system, what was saved, the storages' names


class Refused(ValueError):
    """A pickle that asks for more than tensors, numbers and containers."""


class _Dictionary(dict[Any, Any]):
    """Takes attributes, as the ``_metadata`` of a state dict."""


class _Value:
    """Placeholder for anything that is not looked into; takes any state."""

    def __setstate__(self, state: Any) -> None:
        pass


class _Storage:
    def __init__(self, elements: int) -> None:
        self.elements = elements


class _Scanner(pickle._Unpickler):
    """Runs a pickle against stand-ins.

    The unpickler in Python: that in C can be made to fill memory by the number of a memo.
    """

    dispatch: ClassVar[dict[int, Any]] = {
        opcode[0]: pickle._Unpickler.dispatch[opcode[0]] for opcode in _OPCODES
    }

    def __init__(self, file: io.BytesIO, most: int) -> None:
        super().__init__(file)
        self.most = most
        self.storages: dict[str, int] = {}
        self._known: dict[tuple[str, str], Callable[..., Any]] = {
            ("collections", "OrderedDict"): _no_arguments,
            ("torch._utils", "_rebuild_tensor"): self._tensor,
            ("torch._utils", "_rebuild_tensor_v2"): self._tensor,
            ("torch._utils", "_rebuild_parameter"): _first,
            ("numpy", "dtype"): _small,
            ("_codecs", "encode"): _small,
            **{(module, "scalar"): _scalar for module in _NUMPY},
            **{("torch", f"{kind}Storage"): _never for kind in _STORAGES},
        }

    def load(self) -> Any:
        """Return what the stand-ins made of the pickle."""
        try:
            return super().load()
        except KeyError as error:  # of the opcodes, or of the memo
            raise Refused(f"it is no pickle as torch.save writes them ({error})") from None

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in of a global."""
        if (module, name) not in self._known:
            raise Refused(f"it asks for {module}.{name}"[:120])
        return self._known[module, name]

    def persistent_load(self, pid: Any) -> Any:
        """The stand-in of a storage."""
        if not isinstance(pid, tuple) or len(pid) < 5 or not isinstance(pid[2], str):
            raise Refused("it names something else than a storage")
        key, elements = pid[2], pid[4]
        if type(elements) is not int or elements < 0:
            raise Refused(f"its storage {key[:40]} has a strange size")
        self.storages[key] = max(elements, self.storages.get(key, 0))
        if sum(self.storages.values()) > self.most:
            raise Refused(f"its storages claim more than the file's {self.most} bytes")
        return _Storage(elements)

    def _tensor(self, storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> _Value:
        """Check a ``_rebuild_tensor_v2``: the storage would grow to what a tensor claims."""
        numbers = (offset, *size, *stride)
        plain = all(type(number) is int and number >= 0 for number in numbers)
        if not isinstance(storage, _Storage) or len(size) != len(stride) or not plain:
            raise Refused("it has a tensor of no storage or of strange sizes")
        last = sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if math.prod(size) > self.most or (0 not in size and offset + last >= storage.elements):
            raise Refused("it has a tensor that claims more than is there")
        return _Value()


def scan_pickle(path: Path) -> None:
    """Scan a file of torch.save without making what it asks for.

    Raises:
        Refused: naming what it asks for.
        Exception: whatever a damaged pickle or archive makes of Python's readers.
    """
    most = path.stat().st_size
    if not zipfile.is_zipfile(path):  # the older format
        file = io.BytesIO(path.read_bytes())
        for _ in range(_OLD_FORMAT_PICKLES):
            _Scanner(file, most).load()
        return
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        squeezed = [one.filename for one in members if one.compress_type != zipfile.ZIP_STORED]
        if squeezed:
            raise Refused(f"its member {squeezed[0][:120]} is compressed, as torch.save never does")
        if sum(one.file_size for one in members) > most:
            raise Refused("its members overlap")
        names = [one.filename for one in members if one.filename.endswith("/data.pkl")]
        if len(names) != 1:
            raise Refused("it is an archive of something else")
        _Scanner(io.BytesIO(archive.read(names[0])), most).load()


def _no_arguments(*arguments: Any) -> _Dictionary:
    if arguments:
        raise Refused("it makes a dictionary of another one")
    return _Dictionary()


def _first(data: Any, *rest: Any) -> Any:
    return data


def _small(*arguments: Any) -> _Value:
    if any(isinstance(one, str) and len(one) > _LONGEST_SCALAR for one in arguments):
        raise Refused("it holds a number of strange length")
    return _Value()


def _scalar(*arguments: Any) -> _Value:
    if not all(isinstance(one, _Value) for one in arguments):
        raise Refused("it holds a number of strange kind")
    return _Value()


def _never(*arguments: Any) -> _Value:
    raise Refused("it makes a storage of nothing")
