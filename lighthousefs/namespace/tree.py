"""The mounted tree, composed from its parts: each node id says which part answers for it."""

from __future__ import annotations

from collections.abc import Mapping

from lighthousefs.engine.engine import Engine
from lighthousefs.namespace.found import Part, read_only
from lighthousefs.namespace.live import LiveTree
from lighthousefs.namespace.nodes import CLASS_SHIFT, LIVE, ROOT_NODE
from lighthousefs.namespace.synthetic import Owner, SyntheticTree, Text


class Tree:
    """`live` takes changes; `of(node)` is the part that answers for a node, or for a handle."""

    def __init__(self, engine: Engine, texts: Mapping[bytes, Text], owner: Owner) -> None:
        self.engine = engine
        self.live = LiveTree(engine)
        synthetic = SyntheticTree(engine, texts, owner)
        self._synthetic: Part = synthetic
        self._parts: tuple[Part, ...] = (self.live, synthetic.past, synthetic.past, synthetic)

    def of(self, node: int) -> Part:
        """The part that answers for `node`."""
        return self._synthetic if node == ROOT_NODE else self._parts[node >> CLASS_SHIFT]

    def changeable(self, *nodes: int) -> LiveTree:
        """The live tree, if all `nodes` are in it.

        Raises Refused (EROFS): everything else is read-only.
        """
        for node in nodes:
            if node == ROOT_NODE or node >> CLASS_SHIFT != LIVE:
                raise read_only()
        return self.live
