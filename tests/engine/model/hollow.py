"""Stands in for NVIDIA's largest libraries, which a CPU never calls: 3.5 GB less to fetch, to load and to keep.

PyPI has torch for Linux as the CUDA build only, and that build does not load without the libraries it was linked to.
A hollow library has the name, the versions and the symbols that torch's own files ask for, and nothing behind them:
whoever calls one reads which library it was, and the process ends. So nothing can run on a hollow library by mistake.

Run in a process of its own, with the environment's packages on the path (it reads ELF by their `elftools`):
`python hollow.py SITE_PACKAGES`.
"""

from __future__ import annotations

import struct
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path

#: Kept real, because torch calls it on a machine without a GPU too: cudart, cupti, cufile.
HOLLOW = {
    "libcublas.so.13": "",
    "libcublasLt.so.13": "",
    "libcudnn.so.9": "",
    "libcufft.so.12": "",
    "libcurand.so.10": "curand",
    "libcusparse.so.12": "",
    "libcusparseLt.so.0": "cusparseLt",
    "libnccl.so.2": "nccl",
    "libnvrtc.so.13": "",
    "libnvshmem_host.so.3": "",
}
"""Name of the library, and the prefix of its symbols where its makers gave them no version to tell them by."""

_PAGE = 4096
_HEADER, _PROGRAM_HEADER = 64, 56
_VERSION_BASE, _FIRST_VERSION = 1, 2
_READ, _READ_RUN, _READ_WRITE = 4, 5, 6

Symbols = dict[str, str]  # name → version, or "" where it has none


def asked_for(torch_libraries: Path) -> dict[str, Symbols]:
    """What torch's own libraries want of each hollow one."""
    wanted: dict[str, Symbols] = {library: {} for library in HOLLOW}
    for path in sorted(torch_libraries.glob("*.so")):
        for symbol, library, version in _undefined(path):
            owner = library or next(
                (name for name, prefix in HOLLOW.items() if prefix and symbol.startswith(prefix)), ""
            )
            if owner in wanted:
                wanted[owner][symbol] = version
    return wanted


def _undefined(path: Path) -> Iterator[tuple[str, str, str]]:
    """Each symbol that `path` wants from elsewhere, with the library and the version it names, if it does."""
    from elftools.elf.elffile import ELFFile  # noqa: PLC0415 - of the environment, not of this project

    with path.open("rb") as stream:
        elf = ELFFile(stream)
        symbols, versions = elf.get_section_by_name(".dynsym"), elf.get_section_by_name(".gnu.version")
        needs = elf.get_section_by_name(".gnu.version_r")
        if symbols is None or versions is None or needs is None:
            return
        owners = {
            auxiliary["vna_other"]: (need.name, auxiliary.name)
            for need, auxiliaries in needs.iter_versions()
            for auxiliary in auxiliaries
        }
        for index, symbol in enumerate(symbols.iter_symbols()):
            if symbol["st_shndx"] == "SHN_UNDEF" and symbol.name:
                number = versions.get_symbol(index)["ndx"]
                library, version = owners.get(number, ("", ""))
                yield symbol.name, library, version


def hollow_library(name: str, symbols: Mapping[str, str]) -> bytes:
    """An x86-64 shared object that has `symbols`; to call any of them is the end of the process."""
    strings = _Strings()
    versions = sorted({version for version in symbols.values() if version})
    numbers = {version: number for number, version in enumerate(versions, start=_FIRST_VERSION)}
    code_at = _HEADER + 4 * _PROGRAM_HEADER
    code = _the_end(f"{name} was called: this environment has no CUDA\n".encode())

    table = [struct.pack("<IBBHQQ", 0, 0, 0, 0, 0, 0)]
    version_of = [struct.pack("<H", 0)]
    for symbol, version in symbols.items():
        # global function, in "section" 1: defined
        table.append(struct.pack("<IBBHQQ", strings.at(symbol), 0x12, 0, 1, code_at, len(code)))
        version_of.append(struct.pack("<H", numbers.get(version, _VERSION_BASE)))
    definitions = _version_definitions(name, versions, strings)
    name_at = strings.at(name)

    parts = {
        "code": code,
        "symbols": b"".join(table),
        "hash": _hash_table(["", *symbols]),
        "versions": b"".join(version_of),
        "definitions": definitions,
        "strings": strings.bytes,
    }
    body, places = bytearray(code_at), {}
    for part, content in parts.items():
        body += bytes(-len(body) % 16)
        places[part] = len(body)
        body += content
    first_segment = len(body)
    body += bytes(-len(body) % _PAGE)

    entries = [(14, name_at), (4, places["hash"]), (5, places["strings"]), (6, places["symbols"])]
    entries += [(10, len(strings.bytes)), (11, 24)]
    if versions:
        entries += [(0x6FFFFFF0, places["versions"]), (0x6FFFFFFC, places["definitions"])]
        entries += [(0x6FFFFFFD, len(versions) + 1)]
    dynamic = b"".join(struct.pack("<QQ", tag, value) for tag, value in [*entries, (0, 0)])
    dynamic_at = len(body)
    body += dynamic

    body[:_HEADER] = _elf_header(code_at)
    # the loader writes into the dynamic section; the last one says that no executable stack is wanted
    segments = [
        (1, _READ_RUN, 0, first_segment, _PAGE),
        (1, _READ_WRITE, dynamic_at, len(dynamic), _PAGE),
        (2, _READ_WRITE, dynamic_at, len(dynamic), 8),
        (0x6474E551, _READ_WRITE, 0, 0, 16),
    ]
    body[_HEADER:code_at] = b"".join(
        struct.pack("<IIQQQQQQ", kind, access, at, at, at, size, size, alignment)
        for kind, access, at, size, alignment in segments
    )
    return bytes(body)


class _Strings:
    """The string table; offset 0 is the empty string."""

    def __init__(self) -> None:
        self.bytes = b"\0"
        self._places: dict[str, int] = {}

    def at(self, text: str) -> int:
        if text not in self._places:
            self._places[text] = len(self.bytes)
            self.bytes += text.encode() + b"\0"
        return self._places[text]


def _the_end(message: bytes) -> bytes:
    """write(2, message), exit_group(127)."""
    code = b"\xb8\x01\x00\x00\x00" + b"\xbf\x02\x00\x00\x00" + b"\x48\x8d\x35" + struct.pack("<i", 19)
    code += b"\xba" + struct.pack("<I", len(message)) + b"\x0f\x05"
    code += b"\xb8\xe7\x00\x00\x00" + b"\xbf\x7f\x00\x00\x00" + b"\x0f\x05"
    return code + message


def _elf_header(entry: int) -> bytes:
    identity = b"\x7fELF\x02\x01\x01" + bytes(9)
    return identity + struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, entry, _HEADER, 0, 0, _HEADER, 56, 4, 64, 0, 0)


def _version_definitions(name: str, versions: list[str], strings: _Strings) -> bytes:
    """The library's own name first, as the base; then each version."""
    definitions = [(1, _VERSION_BASE, name)]
    definitions += [(0, number, version) for number, version in enumerate(versions, start=_FIRST_VERSION)]
    packed = b""
    for index, (flags, number, version) in enumerate(definitions):
        following = 28 if index + 1 < len(definitions) else 0
        packed += struct.pack("<HHHHIII", 1, flags, number, 1, _elf_hash(version), 20, following)
        packed += struct.pack("<II", strings.at(version), 0)
    return packed


def _hash_table(names: list[str]) -> bytes:
    """System V's: a chain of symbol numbers for each bucket."""
    chains: dict[int, list[int]] = defaultdict(list)
    buckets = max(1, len(names) // 2)
    for index, name in enumerate(names[1:], start=1):
        chains[_elf_hash(name) % buckets].append(index)
    following = [0] * len(names)
    for chain in chains.values():
        for index, after in pairwise(chain):
            following[index] = after
    heads = [chains[bucket][0] if bucket in chains else 0 for bucket in range(buckets)]
    return struct.pack(f"<{2 + buckets + len(names)}I", buckets, len(names), *heads, *following)


def _elf_hash(name: str) -> int:
    value = 0
    for byte in name.encode():
        value = (value << 4) + byte
        high = value & 0xF0000000
        value = (value ^ (high >> 24)) & ~high & 0xFFFFFFFF
    return value


def main(site_packages: Path) -> None:
    """Put the hollow libraries where torch's files look first: beside themselves."""
    beside_torch = site_packages / "torch" / "lib"
    for name, symbols in asked_for(beside_torch).items():
        (beside_torch / name).write_bytes(hollow_library(name, symbols))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
