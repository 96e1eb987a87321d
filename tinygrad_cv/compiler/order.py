"""What must run before what, and which elementwise operators may run as one loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise

from .values import Instruction, Value

_MOST_OPERANDS = 24  # arrays of one loop: more would not stay in registers and cache


class Group:
    """Instructions that run as one step, in order. `loop`: they are elementwise and become one generated loop, which may end in a sum.

    Several that are no loop are an operator, `lead`, and elementwise ones before or after it that its kernel does too (see
    `Op.followed_by` and `Op.preceded_by`).
    """

    def __init__(self, instructions: Sequence[Instruction], loop: bool) -> None:
        self.instructions = list(instructions)
        self.loop = loop

    @property
    def total(self) -> Instruction | None:
        """The sum or mean at the end of a loop, if there is one."""
        last = self.instructions[-1]
        return last if self.loop and not last.operator.elementwise else None

    @property
    def lead(self) -> Instruction:
        """The instruction whose kernel it is, where there is no loop."""
        if len(self.instructions) == 1:
            return self.instructions[0]
        return next(i for i in self.instructions if not i.operator.elementwise)

    def reads(self) -> list[Value]:
        """Values from outside the group, in order of use."""
        own = {o for i in self.instructions for o in i.outputs}
        return list(dict.fromkeys(v for i in self.instructions for v in i.inputs if isinstance(v, Value) and v not in own))

    def makes(self) -> list[Value]:
        """All values computed in the group, in order."""
        return [o for i in self.instructions for o in i.outputs]


def _touches(instruction: Instruction) -> list[int] | None:
    """The tensors from outside that an instruction may change, by id; None: any. [] for one that changes nothing."""
    if instruction.kind == "op":
        return []
    if instruction.kind == "store":
        return [id(instruction.inputs[0].tensor)]
    if instruction.kind == "gradient":
        return [-id(instruction.leaf)]
    if getattr(instruction.operator, "local", False):
        return [id(v.tensor) for v in instruction.inputs if v.kind in ("state", "gradient")]
    return None


def dependencies(instructions: Sequence[Instruction]) -> list[int]:
    """For each instruction, the earlier ones that must run before it, directly, as the bits of an integer.

    Through values; and through memory from outside: what changes it stays behind those that read it before and ahead of those
    that read it after. Instructions that change the outside keep their order.
    """
    maker: dict[Value, int] = {}
    readers: dict[int, int] = {}  # by tensor: those that read it since it was changed
    writers: dict[int, int] = {}
    seen: dict[Value, int] = {}  # views of tensors from outside, and of which
    everywhere = 0  # the last instruction that may change anything
    effects = 0
    direct: list[int] = []
    for position, instruction in enumerate(instructions):
        mask = everywhere
        for value in instruction.inputs:
            if not isinstance(value, Value):
                continue
            if value in maker:
                mask |= 1 << maker[value]
            read = id(value.tensor) if value.kind in ("state", "gradient") else seen.get(value)
            if read is not None:
                mask |= writers.get(read, 0)
                readers[read] = readers.get(read, 0) | 1 << position
                view = instruction.kind == "op" and (instruction.operator.view or instruction.view)
                if view and value is instruction.inputs[0]:
                    seen.update(dict.fromkeys(instruction.outputs, read))
        changed = _touches(instruction)
        if changed is None:
            mask |= (1 << position) - 1
            everywhere = 1 << position
            readers.clear()
            writers.clear()
        for key in changed or ():
            mask |= readers.pop(key, 0) & ~(1 << position) | writers.get(key, 0)
            writers[key] = 1 << position
        if changed != []:
            mask |= effects
            effects = 1 << position
        for output in instruction.outputs:
            maker[output] = position
        direct.append(mask)
    return direct


def _bits(mask: int) -> list[int]:
    found = []
    while mask:
        low = mask & -mask
        found.append(low.bit_length() - 1)
        mask ^= low
    return found


def group(
    instructions: Sequence[Instruction], fusible: Callable[[Instruction], bool], summable: Callable[[Instruction], bool],
    results: Iterable[Value] = (),
) -> list[Group]:  # fmt: skip
    """The instructions in an order that respects what depends on what, with chains of fusible ones of one shape as groups.

    summable: sums, which join a group if nobody else wants its values. results: the values that the program returns.
    """
    consumers: dict[Value, int] = {v: -1 for v in results}
    for position, instruction in enumerate(instructions):
        for value in instruction.inputs:
            if isinstance(value, Value):
                consumers[value] = consumers.get(value, 0) | 1 << position
    direct = dependencies(instructions)
    before: list[int] = []  # of each instruction, all that must run before it, once groups run as one
    member: list[int] = []  # the group of each, as a mask
    maker: dict[Value, int] = {}
    fused = [fusible(i) for i in instructions]
    for position, instruction in enumerate(instructions):
        mask = direct[position]
        for p in _bits(mask):
            mask |= before[p] | member[p]
        before.append(mask)
        member.append(1 << position)
        for output in instruction.outputs:
            maker[output] = position
        p = _partner(position, instructions, maker, consumers, member, fused)
        if p >= 0 and _merge(instructions, before, member, p, position):
            for q in _bits(member[position]):
                fused[q] = False
            continue
        if not fused[position]:
            p = maker.get(instruction.inputs[0], -1) if instruction.inputs else -1
            if p >= 0 and fused[p] and summable(instruction):
                union = member[p] | 1 << position
                if not any(consumers.get(o, 0) & ~union for q in _bits(member[p]) for o in instructions[q].outputs):
                    _merge(instructions, before, member, p, position)
            continue
        shape = instruction.outputs[0].shape
        for value in instruction.inputs:
            p = maker.get(value, -1) if isinstance(value, Value) else -1
            if p < 0 or not fused[p] or value.shape != shape or member[p] & 1 << position:
                continue
            _merge(instructions, before, member, p, position)
    return _emit(instructions, before, member, fused)


def _partner(
    position: int, instructions: Sequence[Instruction], maker: Mapping[Value, int], consumers: Mapping[Value, int],
    member: Sequence[int], fused: Sequence[bool],
) -> int:  # fmt: skip
    """A position in the group that has a kernel for all of itself and the instruction at `position` together; -1 if there is none."""
    instruction = instructions[position]
    if instruction.kind != "op":
        return -1
    if instruction.operator.preceded_by and isinstance(instruction.inputs[0], Value):
        p = maker.get(instruction.inputs[0], -1)
        if p < 0 or not fused[p]:
            return -1
        chain = [instructions[q] for q in _bits(member[p])]
        linked = all(a.outputs[0] is b.inputs[0] for a, b in pairwise([*chain, instruction]))
        return p if linked and _done_with(instruction.operator.preceded_by, chain, consumers, member[p]) else -1
    if not instruction.operator.elementwise:
        return -1
    for value in instruction.inputs:
        p = maker.get(value, -1) if isinstance(value, Value) else -1
        if p < 0 or consumers[value] != 1 << position:
            continue
        lead, *chain = [instructions[q] for q in _bits(member[p])]
        others = [v for v in instruction.inputs if v is not value]
        if value is not (chain[-1] if chain else lead).outputs[0] or len(others) != len(instruction.inputs) - 1:
            continue
        # What a loop makes for this instruction alone is better kept in that loop.
        waiting = [
            v for v in others if isinstance(v, Value) and v in maker and fused[maker[v]] and consumers[v] == 1 << position
        ]
        known = lead.operator.followed_by if lead.kind == "op" else {}
        if not waiting and _done_with(known, [*chain, instruction], consumers, member[p] | 1 << position):
            return p
    return -1


def _done_with(known: Mapping[str, str], chain: Sequence[Instruction], consumers: Mapping[Value, int], member: int) -> bool:
    """Whether `known` has this chain of elementwise operators, all on arrays of one shape and dtype and with settings at their
    defaults, and nobody else wants what lies between them."""
    if " ".join(i.name for i in chain) not in known or any(consumers[i.outputs[0]] & ~member for i in chain[:-1]):
        return False
    last = chain[-1].outputs[0]
    alike = all(isinstance(v, Value) and v.shape == last.shape and v.dtype == last.dtype for i in chain for v in i.inputs)
    return alike and all(map(_at_defaults, chain))


def _at_defaults(instruction: Instruction) -> bool:
    """Whether an operator's settings are their defaults; `inplace` changes no result."""
    parameters = instruction.operator.own_signature.parameters
    settings = zip(instruction.operator.attr_params, instruction.attributes, strict=True)
    return all(name == "inplace" or value == parameters[name].default for name, value in settings)


def _merge(instructions: Sequence[Instruction], before: list[int], member: list[int], a: int, b: int) -> bool:
    """Puts two groups together, unless something outside of them would have to run between their parts; returns whether it did."""
    union = member[a] | member[b]
    above = (before[a] | before[b]) & ~union
    if any(before[x] & union for x in _bits(above)):
        return False
    parts = [instructions[p] for p in _bits(union)]
    together = Group(parts, True)
    reads = together.reads()
    if (
        len(reads) + len(parts) > _MOST_OPERANDS
        or len({v.dtype for v in (*reads, *together.makes()) if v.dtype.kind == "f"}) > 1
    ):
        return False
    for p in _bits(union):
        member[p], before[p] = union, above
    for x in range(len(member)):
        if not union >> x & 1 and before[x] & union:
            before[x] |= union | above
    return True


def _emit(instructions: Sequence[Instruction], before: list[int], member: list[int], fused: Sequence[bool]) -> list[Group]:
    """The groups, each as early as its last instruction allows."""
    groups: list[Group] = []
    done = 0
    waiting = sorted({m for m in member}, key=lambda m: m.bit_length())
    while waiting:
        later = []
        for mask in waiting:
            first = _bits(mask)[0]
            if before[first] & ~done & ~mask:
                later.append(mask)
                continue
            positions = _bits(mask)
            groups.append(Group([instructions[p] for p in positions], fused[first]))
            done |= mask
        if len(later) == len(waiting):
            raise AssertionError("groups depend on each other in a circle")
        waiting = later
    return groups


__all__ = ["Group", "dependencies", "group"]
