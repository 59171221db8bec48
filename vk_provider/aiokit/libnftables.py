"""nft's own library in this process: a small text is applied in less than a millisecond, a run of nft takes twenty.

The program nft is a thin layer above it, so where nft is installed the library is, too. Source: libnftables(3).
"""

from __future__ import annotations

import logging
import threading
import weakref
from typing import Any

log = logging.getLogger(__name__)

SONAME = "libnftables.so.1"


class NftLibrary:
    """Loaded at the first use, which takes some milliseconds, and bound to the network namespace of that thread.

    The library reads by itself, and reads again, what it has to know of the tables.
    """

    def __init__(self, soname: str = SONAME) -> None:
        self._soname = soname
        self._lock = threading.Lock()
        self._library: Any = None
        self._context: int | None = None
        self._is_missing = False

    def run(self, text: str) -> tuple[int, str] | None:
        """0 and "", or another number and what was wrong; None where there is no library. The commands are one
        transaction. Blocking."""
        with self._lock:
            if not self._is_open():
                return None
            code: int = self._library.nft_run_cmd_from_buffer(self._context, text.encode(errors="replace"))
            errors: bytes = self._library.nft_ctx_get_error_buffer(self._context) or b""
            self._library.nft_ctx_get_output_buffer(self._context)  # empties it, or it would grow
            return code, errors.decode(errors="replace") if code else ""

    def _is_open(self) -> bool:
        if self._context is None and not self._is_missing:
            try:
                self._open()
            except (OSError, AttributeError) as error:
                self._is_missing = True
                log.warning("each nft text takes a process of its own: %s", error)
        return not self._is_missing

    def _open(self) -> None:
        """Raises OSError, AttributeError: another library."""
        import ctypes  # not while an agent starts: it takes time

        library = ctypes.CDLL(self._soname)
        context, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
        for name, arguments, result in (
            ("nft_ctx_new", (ctypes.c_uint32,), context),
            ("nft_ctx_free", (context,), None),
            ("nft_ctx_buffer_output", (context,), number),
            ("nft_ctx_buffer_error", (context,), number),
            ("nft_ctx_get_output_buffer", (context,), text),
            ("nft_ctx_get_error_buffer", (context,), text),
            ("nft_run_cmd_from_buffer", (context, text), number),
        ):
            function = getattr(library, name)
            function.argtypes, function.restype = arguments, result
        made = library.nft_ctx_new(0)
        if not made:
            raise OSError(f"{self._soname} makes no context")
        weakref.finalize(self, library.nft_ctx_free, made)
        library.nft_ctx_buffer_output(made)
        library.nft_ctx_buffer_error(made)
        self._library, self._context = library, made
