"""Graphs as text that a person can read and `parse` reads back: `parse(print_graph(g)) == g`.

Constants of up to INLINE_ELEMENTS elements stand in the text, larger ones in a mapping beside it
(on disk a safetensors file, see graphopt.ir.store).
"""

from graphopt.ir.text.parser import parse
from graphopt.ir.text.printer import INLINE_ELEMENTS, print_graph

__all__ = ["INLINE_ELEMENTS", "parse", "print_graph"]
