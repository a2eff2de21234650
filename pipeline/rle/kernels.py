"""Compiled kernels: masks <-> edges <-> text bytes, run-list algebra, rows of a CSV file.

Nothing here checks its arguments' types or sizes: the callers in this package do, and a wrong argument may
read or write out of bounds. Every kernel releases the GIL, so that threads can share the work of a batch.

`edges` is the package's representation of a mask: uint32 `[s0, e0, s1, e1, ...]`, half-open, 0-based, sorted,
runs not touching. Bytes are looked at 64 at a time through `_between64`; bit i of its result stands for
byte i, which (like the digit arithmetic below) assumes a little-endian machine.

All kernels live in this one file because numba stamps its on-disk cache by the file of the compiled function:
a kernel that calls one from another file would not notice that the other file has changed.
"""

import atexit
import os
import shutil
import tempfile

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

U8 = np.uint8
U32 = np.uint32
U64 = np.uint64

BLOCK = 64  # bytes looked at together; text and file buffers need this many readable bytes after their end
NO_LIMIT = 2**32 - 1  # the largest pixel count that a uint32 edge can name
ANY_SIZE = 0  # pixels of an image whose size isn't known

COMMA, NEWLINE, RETURN, QUOTE, SPACE, ZERO = (ord(character) for character in ',\n\r" 0')
COCO_FIRST = ZERO  # cocoapi maskApi.c, rleToString: 6 bits a character, from '0' on

PAIRS, GAPS, COUNTS, COCO = range(4)
STYLES = {"pairs": PAIRS, "gaps": GAPS, "counts": COUNTS, "coco": COCO}  # of `RleFormat`


def _jit(function, inline="never"):
    """`numba.njit` with this package's settings, cached on disk, if need be in a temporary folder."""
    options = {"nogil": True, "cache": True, "boundscheck": False, "error_model": "numpy", "inline": inline}
    try:
        return numba.njit(**options)(function)
    except RuntimeError:
        # numba found no writable place for its cache: a read-only installation, and no home
        folder = tempfile.mkdtemp(prefix="numba-cache-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        os.environ["NUMBA_CACHE_DIR"] = folder  # for processes started from this one
        numba.config.CACHE_DIR = folder
        return numba.njit(**options)(function)


def _inline(function):
    """`_jit` for helpers of hot loops: passing an array to a true call costs a loop up to half of its speed."""
    return _jit(function, inline="always")


# ---------------------------------------------------------------------------------------------- machine words


@intrinsic
def _between64(typingctx, address, low, high):
    """uint64 whose bit i says that low <= byte i <= high, for the 64 bytes at `address`."""

    def codegen(context, builder, signature, arguments):
        address, low, high = arguments
        byte = ir.IntType(8)
        vector = ir.VectorType(byte, BLOCK)
        first_lane = ir.Constant(ir.VectorType(ir.IntType(32), BLOCK), [0] * BLOCK)

        def splat(value):
            lane = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
            return builder.shuffle_vector(lane, ir.Constant(vector, ir.Undefined), first_lane)

        block = builder.load(builder.inttoptr(address, vector.as_pointer()), align=1)
        # one unsigned comparison does for both bounds
        above_low = builder.sub(block, splat(low))
        inside = builder.icmp_unsigned("<=", above_low, splat(builder.sub(high, low)))
        return builder.bitcast(inside, ir.IntType(64))

    return types.uint64(types.intp, types.uint8, types.uint8), codegen


@intrinsic
def _lowest_bit(typingctx, word):
    """Index of the lowest set bit of a word that is not 0."""

    def codegen(context, builder, signature, arguments):
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), codegen


@intrinsic
def _count_bits(typingctx, word):
    """Number of set bits."""

    def codegen(context, builder, signature, arguments):
        return builder.ctpop(arguments[0])

    return types.int64(types.uint64), codegen


@intrinsic
def _load_u64(typingctx, address):
    """The 8 bytes at `address`, which need not be aligned."""

    def codegen(context, builder, signature, arguments):
        return builder.load(builder.inttoptr(arguments[0], ir.IntType(64).as_pointer()), align=1)

    return types.uint64(types.intp), codegen


@intrinsic
def _store_u32(typingctx, address, value):
    """Write 4 bytes at `address`, which need not be aligned."""

    def codegen(context, builder, signature, arguments):
        builder.store(arguments[1], builder.inttoptr(arguments[0], ir.IntType(32).as_pointer()), align=1)
        return context.get_dummy_value()

    return types.void(types.intp, types.uint32), codegen


@intrinsic
def _copy_bytes(typingctx, target, source, count):
    """memcpy: assigning a row through numba's array slices is ten times slower."""

    def codegen(context, builder, signature, arguments):
        pointer = ir.IntType(8).as_pointer()
        target, source, count = arguments
        memcpy = builder.module.declare_intrinsic("llvm.memcpy", [pointer, pointer, ir.IntType(64)])
        not_volatile = ir.Constant(ir.IntType(1), 0)
        builder.call(
            memcpy,
            [builder.inttoptr(target, pointer), builder.inttoptr(source, pointer), count, not_volatile],
        )
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp), codegen


@_jit
def _address(array):
    """Where an array's memory begins, as int64: numba has it as uint64, and that plus an int64 as a float."""
    return np.int64(array.ctypes.data)


@_jit
def _low_bits(count):
    """Word with the lowest `count` bits set, 0 <= count <= 64."""
    return ~U64(0) if count >= BLOCK else (U64(1) << U64(count)) - U64(1)


# ---------------------------------------------------------------------------------------------- mask -> edges


@_jit
def _pixel_bits(address, size, position, low, high):
    """`_between64` of the 64 pixels from `position`; bits past the array's `size` >= 64 bytes are 0."""
    if position + BLOCK <= size:
        return _between64(address + position, low, high)
    # the last block overlaps the one before it, so that no byte past the array is read
    start = size - BLOCK
    return _between64(address + start, low, high) >> U64(position - start)


@_inline
def _emit(changes, position, out, found):
    """Append position + i to `out` for every set bit i of `changes`; the new count."""
    while changes != U64(0):
        out[found] = position + _lowest_bit(changes)
        found += 1
        changes &= changes - U64(1)
    return found


@_jit
def _scan_linear(address, size, pixels, threshold, limit, out, capacity):
    """Edges of `pixels` consecutive bytes, into `out`.

    Returns (count, whether all values are <= limit); count -1 means that `capacity` is too small.
    """
    found = 0
    carry = U64(0)
    excess = U64(0)
    whole = pixels & ~(BLOCK - 1)
    for position in range(0, whole, BLOCK):
        bits = _between64(address + position, threshold, U8(255))
        excess |= ~_between64(address + position, U8(0), limit)
        changes = bits ^ ((bits << U64(1)) | carry)
        carry = bits >> U64(63)
        if changes != U64(0):
            if found + BLOCK > capacity:
                return -1, True
            found = _emit(changes, position, out, found)
    if whole < pixels:
        keep = _low_bits(pixels - whole)
        bits = _pixel_bits(address, size, whole, threshold, U8(255)) & keep
        excess |= ~_pixel_bits(address, size, whole, U8(0), limit) & keep
        if found + BLOCK > capacity:
            return -1, True
        found = _emit(bits ^ ((bits << U64(1)) | carry), whole, out, found)
    if found & 1:  # foreground up to the last pixel
        out[found] = pixels
        found += 1
    return found, excess == U64(0)


@_jit
def linear_edges(flat, pixels, threshold, limit):
    """Edges of the first `pixels` values of `flat`, uint8 (>= 64,); values >= threshold are foreground.

    Returns (edges uint32, whether every value was <= limit).
    """
    capacity = max(1024, pixels >> 6)
    while True:
        # A helper fills the array: re-binding a growing array inside the hot loop would slow it down.
        out = np.empty(capacity + 1, U32)
        found, within = _scan_linear(_address(flat), flat.size, pixels, U8(threshold), U8(limit), out, capacity)
        if found >= 0:
            return out[:found], within
        capacity *= 4


@_inline
def _emit_column_events(changes, row, first_column, height, events, found, column_counts):
    """One event (column << 32 | column-major position) for every set bit of `changes`; the new count."""
    while changes != U64(0):
        column = first_column + _lowest_bit(changes)
        events[found] = (U64(column) << U64(32)) | U64(column * height + row)
        column_counts[column] += U32(1)
        found += 1
        changes &= changes - U64(1)
    return found


@_jit
def _scan_rows(address, height, width, threshold, limit, above, events, column_counts, capacity):
    """Where a pixel differs from the one before it in column-major order, row by row, as events.

    `above` uint64 (blocks,) holds the bits of the row above.
    Returns (count, whether all values are <= limit); count -1 means that `capacity` is too small.
    """
    found = 0
    excess = U64(0)
    size = height * width
    whole = width >> 6
    tail = width & (BLOCK - 1)
    keep = _low_bits(tail)
    for row in range(height):
        start = row * width
        if found + width + BLOCK > capacity:
            return -1, True
        for block in range(whole):
            at = address + start + BLOCK * block
            bits = _between64(at, threshold, U8(255))
            excess |= ~_between64(at, U8(0), limit)
            changes = bits ^ above[block]
            if changes != U64(0):
                above[block] = bits
                found = _emit_column_events(changes, row, BLOCK * block, height, events, found, column_counts)
        if tail:
            at = start + BLOCK * whole
            bits = _pixel_bits(address, size, at, threshold, U8(255)) & keep
            excess |= ~_pixel_bits(address, size, at, U8(0), limit) & keep
            changes = bits ^ above[whole]
            above[whole] = bits
            found = _emit_column_events(changes, row, BLOCK * whole, height, events, found, column_counts)
    return found, excess == U64(0)


@_jit
def _bits_above_first_row(address, height, width, threshold, above):
    """What precedes row 0 in column-major order: the last row, moved one column to the right."""
    size = height * width
    carry = U64(0)
    for block in range(above.size):
        column = BLOCK * block
        bits = _pixel_bits(address, size, size - width + column, threshold, U8(255))
        keep = _low_bits(min(width - column, BLOCK))
        above[block] = ((bits << U64(1)) | carry) & keep
        carry = bits >> U64(63)


@_jit
def _counts_to_starts(counts):
    """Replace counts by the index at which each bucket starts (the first step of a counting sort)."""
    start = U32(0)
    for bucket in range(counts.size):
        count = counts[bucket]
        counts[bucket] = start
        start += count


@_jit
def column_edges(mask, threshold, limit):
    """Column-major edges of a C-ordered `mask`, uint8 (H, W), H * W >= 64; foreground is >= threshold.

    One pass in memory order and no transpose: each row's bits are compared with those of the row above (row 0
    with the last row moved by one column), and the few changes are then sorted by column.
    Returns (edges uint32, whether every value was <= limit).
    """
    height, width = mask.shape
    address = _address(mask)
    above = np.empty((width + BLOCK - 1) >> 6, U64)
    capacity = max(1024, mask.size >> 6) + 2 * width
    while True:
        _bits_above_first_row(address, height, width, U8(threshold), above)
        events = np.empty(capacity, U64)
        column_starts = np.zeros(width, U32)
        found, within = _scan_rows(
            address, height, width, U8(threshold), U8(limit), above, events, column_starts, capacity
        )
        if found >= 0:
            break
        capacity *= 4
    _counts_to_starts(column_starts)
    edges = np.empty(found + 1, U32)
    for event in events[:found]:
        column = np.int64(event >> U64(32))
        edges[column_starts[column]] = U32(event & U64(NO_LIMIT))
        column_starts[column] += U32(1)
    if found & 1:  # foreground up to the last pixel
        edges[found] = mask.size
        found += 1
    return edges[:found], within


# ---------------------------------------------------------------------------------------------- edges -> mask


@_jit
def are_edges(edges, pixels):
    """Whether `edges` uint32 are pairs, strictly increasing, and none past `pixels`."""
    disorder = edges.size & 1
    for i in range(1, edges.size):
        disorder |= np.int64(edges[i - 1] >= edges[i])
    return disorder == 0 and (edges.size == 0 or np.int64(edges[-1]) <= pixels)


@_jit
def fill_linear(edges, flat):
    """Write 1 inside the edges' runs and 0 elsewhere into `flat`, uint8 (pixels,)."""
    flat[:] = 0
    for i in range(0, edges.size, 2):
        flat[np.int64(edges[i]) : np.int64(edges[i + 1])] = 1


@_jit
def _edges_by_row(edges, height, first_row, events, row_counts):
    """Walk the edges down the columns: row 0 into `first_row` uint8 (W,), every lower change into `events`.

    An event is (row << 32 | column); the number of events is returned.
    """
    found = 0
    column = 0
    column_start = np.int64(0)
    inside = U8(0)
    for edge in edges:
        while edge >= column_start + height:
            column_start += height
            column += 1
            first_row[column] = inside
        row = edge - column_start
        inside ^= U8(1)
        if row == 0:
            first_row[column] = inside
        else:
            events[found] = (U64(row) << U64(32)) | U64(column)
            row_counts[row] += U32(1)
            found += 1
    return found


@_jit
def fill_columns(edges, out):
    """Write the column-major `edges` into a C-ordered `out`, uint8 (H, W), of 0 and 1.

    Edges are bucketed by row, then one row of pixels is kept up to date and copied out H times.
    """
    height, width = out.shape
    events = np.empty(edges.size, U64)
    row_starts = np.zeros(height, U32)
    current = np.zeros(width + 1, U8)  # the extra column takes the edge at the very end of the image
    found = _edges_by_row(edges, height, current, events, row_starts)
    _counts_to_starts(row_starts)
    columns = np.empty(found, U32)
    for event in events[:found]:
        row = np.int64(event >> U64(32))
        columns[row_starts[row]] = U32(event & U64(NO_LIMIT))
        row_starts[row] += U32(1)
    toggled = 0
    for row in range(height):
        end = np.int64(row_starts[row])  # after the sort: where the next row's events start
        while toggled < end:
            current[columns[toggled]] ^= U8(1)
            toggled += 1
        _copy_bytes(_address(out) + row * width, _address(current), width)


# ---------------------------------------------------------------------------------------------- edges -> text

# "0000" to "9999", each as the four bytes of a little-endian word
_FOUR_DIGITS = sum(
    ((np.arange(10_000, dtype=U32) // U32(10 ** (3 - place)) % U32(10) + U32(ZERO)) << U32(8 * place))
    for place in range(4)
).astype(U32)


@_jit
def _write_group(address, value):
    """Write value < 10000 without leading zeros as up to 4 bytes (4 are always stored); the digit count."""
    digits = 1 + np.int64(value >= 10) + np.int64(value >= 100) + np.int64(value >= 1000)
    _store_u32(address, _FOUR_DIGITS[value] >> U32(8 * (4 - digits)))
    return digits


@_jit
def _write_number(address, value):
    """Write a uint32 in decimal, followed by a space; the address after the space. Needs 4 bytes of slack."""
    group = U32(10_000)
    high = value // group
    if high == 0:
        address += _write_group(address, value)
    elif high < group:
        address += _write_group(address, high)
        _store_u32(address, _FOUR_DIGITS[value - high * group])
        address += 4
    else:
        top = high // group
        address += _write_group(address, top)
        _store_u32(address, _FOUR_DIGITS[high - top * group])
        _store_u32(address + 4, _FOUR_DIGITS[value - high * group])
        address += 8
    _store_u32(address, U32(SPACE))
    return address + 1


@_jit
def write_pairs(edges, base, text):
    """Write "start length start length" into `text`, uint8 (>= 11 * edges.size + 4,); the number of bytes."""
    begin = _address(text)
    address = begin
    for i in range(0, edges.size, 2):
        address = _write_number(address, U32(edges[i] + U32(base)))
        address = _write_number(address, U32(edges[i + 1] - edges[i]))
    return max(address - begin - 1, 0)


@_jit
def write_numbers(numbers, text):
    """Write uint32 numbers with spaces between into `text`, uint8 (>= 11 * numbers.size + 4,); the byte count."""
    begin = _address(text)
    address = begin
    for number in numbers:
        address = _write_number(address, number)
    return max(address - begin - 1, 0)


@_jit
def write_compressed(counts, text):
    """Write uint32 counts as cocoapi's rleToString does into `text`, uint8 (>= 7 * counts.size,); the byte count.

    From the fourth count on, its change from the one two before; 5 bits a character, the lowest first.
    """
    at = 0
    for i in range(counts.size):
        rest = np.int64(counts[i])
        if i > 2:
            rest -= np.int64(counts[i - 2])
        more = True
        while more:
            bits = rest & 0x1F
            rest >>= 5
            more = rest != (-1 if bits & 0x10 else 0)  # until what is left is the sign that bit 4 repeats
            text[at] = COCO_FIRST + bits + (0x20 if more else 0)
            at += 1
    return at


# ---------------------------------------------------------------------------------------------- text -> edges


@_jit
def _eight_digits(word):
    """Value of 8 decimal digits held one a byte (0 to 9, the first in the lowest byte)."""
    tens = word * U64(10) + (word >> U64(8))
    every_fourth = U64(0x000000FF000000FF)
    high = (tens & every_fourth) * U64(0x000F424000000064)  # 1_000_000 << 32 | 100
    low = ((tens >> U64(16)) & every_fourth) * U64(0x0000271000000001)  # 10_000 << 32 | 1
    return (high + low) >> U64(32)


@_jit
def _number_at(address, digits):
    """Value of the 1 to 8 ASCII digits at `address`; 8 bytes are read."""
    ascii_zeros = U64(0x3030303030303030)
    # moving the digits to the word's top puts zeros, not the bytes that follow, in front of them
    return U32(_eight_digits((_load_u64(address) - ascii_zeros) << U64(64 - 8 * digits)))


@_jit
def _read_short_numbers(begin, end, numbers):
    """Numbers of 1 to 8 digits between single spaces, at addresses [begin, end); the count, or -1 if not.

    64 bytes at a time: the spaces' positions are the bits of a word; what lies between is converted 8 bytes at
    once. Errors are only accumulated, so that the loop stays free of branches.
    """
    count = 0
    token = begin
    wrong = np.int64(0)
    for address in range(begin, end + 1, BLOCK):  # `end` itself counts as a separator
        separators = _between64(address, U8(SPACE), U8(SPACE))
        others = ~(separators | _between64(address, U8(ZERO), U8(ZERO + 9)))
        if end - address < BLOCK:
            before_end = _low_bits(end - address)
            separators = (separators & before_end) | (before_end + U64(1))
            others &= before_end
        wrong |= np.int64(others != U64(0))
        while separators != U64(0):
            separator = address + _lowest_bit(separators)
            separators &= separators - U64(1)
            digits = separator - token
            wrong |= np.int64(U64(digits - 1) > U64(7))
            numbers[count] = _number_at(token, digits)
            count += 1
            token = separator + 1
    return -1 if wrong else count


@_jit
def _read_numbers(text, begin, end, numbers):
    """Numbers below 2**32 separated by any number of spaces in text[begin:end]; the count, or -1 if not."""
    count = 0
    i = begin
    while True:
        while i < end and text[i] == SPACE:
            i += 1
        if i == end:
            return count
        value = np.int64(0)
        while i < end and text[i] != SPACE:
            digit = np.int64(text[i]) - ZERO
            value = value * 10 + digit
            if digit < 0 or digit > 9 or value > NO_LIMIT:
                return -1
            i += 1
        numbers[count] = value
        count += 1


@_jit
def _pairs_to_edges(numbers, count, base, pixels):
    """Turn (start, length) into edges in place, touching runs merged; the edges' number, or -1 if invalid."""
    if count & 1:
        return -1
    previous_end = np.int64(0)
    wrong = np.int64(0)
    touching = False
    for i in range(0, count, 2):
        start = np.int64(numbers[i]) - base
        length = np.int64(numbers[i + 1])
        wrong |= (start - previous_end) | (length - 1)  # negative if either is
        touching |= start == previous_end
        previous_end = start + length
        numbers[i] = start
        numbers[i + 1] = previous_end
    if (wrong | (pixels - previous_end)) < 0:
        return -1
    return merge_touching(numbers, count) if touching else count


@_jit
def merge_touching(edges, count):
    """Join runs that end where the next one starts, in place; the new number of edges."""
    kept = 0
    for i in range(0, count, 2):
        if kept and edges[kept - 1] == edges[i]:
            edges[kept - 1] = edges[i + 1]
        else:
            edges[kept] = edges[i]
            edges[kept + 1] = edges[i + 1]
            kept += 2
    return kept


@_jit
def _count_bytes(text, begin, end, low, high):
    """How many bytes of text[begin:end] lie in [low, high], uint8; 64 bytes after `end` must be readable."""
    total = 0
    address = _address(text)
    for i in range(begin, end, BLOCK):
        hits = _between64(address + i, low, high) & _low_bits(min(end - i, BLOCK))
        total += _count_bits(hits)
    return total


@_jit
def count_byte(text, begin, end, value):
    """How often a byte value occurs in text[begin:end]; 64 bytes after `end` must be readable."""
    return _count_bytes(text, begin, end, U8(value), U8(value))


@_jit
def _read_compressed(text, begin, end, numbers):
    """COCO's compressed counts in text[begin:end], see `write_compressed`; their number, or -1 if wrong."""
    count = 0
    value = np.int64(0)
    shift = 0
    for i in range(begin, end):
        bits = np.int64(text[i]) - COCO_FIRST
        if bits < 0 or bits >= 0x40 or shift > 30:  # seven characters hold the largest change
            return -1
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            continue
        if bits & 0x10:
            value -= np.int64(1) << shift
        if count > 2:
            value += np.int64(numbers[count - 2])
        if value < 0 or value > NO_LIMIT:
            return -1
        numbers[count] = value
        count += 1
        value = np.int64(0)
        shift = 0
    return -1 if shift else count


@_jit
def _gaps_to_edges(numbers, count, counts, pixels):
    """Turn lengths of background and foreground into edges in place; the edges' number, or -1 if invalid.

    With `counts` the last may be background, and all together are the image, if its size is known.
    """
    limit = np.int64(NO_LIMIT) if pixels == ANY_SIZE else np.int64(pixels)
    position = np.int64(0)
    touching = False
    for i in range(count):
        if numbers[i] == 0:
            if i & 1:
                return -1
            touching |= i > 0
        position += np.int64(numbers[i])
        if position > limit:
            return -1
        numbers[i] = position
    if counts and count and pixels != ANY_SIZE and position != pixels:
        return -1
    if count & 1:
        if not counts:
            return -1
        count -= 1
    return merge_touching(numbers, count) if touching else count


@_jit
def read_runs(text, begin, end, style, base, pixels, edges):
    """Edges of the RLE in text[begin:end], in one of the `STYLES`; their number, or -1 if anything is wrong.

    `text` uint8 must have 64 readable bytes after `end`; `edges` uint32 has room for `count_numbers`. Runs must
    be sorted and lie inside [0, pixels), or any image if `pixels` is ANY_SIZE; touching ones are merged.
    """
    while begin < end and text[begin] == SPACE:
        begin += 1
    while begin < end and text[end - 1] == SPACE:
        end -= 1
    if begin == end:
        return 0
    if style == COCO:
        count = _read_compressed(text, begin, end, edges)
    else:
        address = _address(text)
        count = _read_short_numbers(address + begin, address + end, edges)
        if count < 0:
            count = _read_numbers(text, begin, end, edges)
    if count < 0:
        return -1
    if style == PAIRS:
        return _pairs_to_edges(edges, count, base, pixels if pixels != ANY_SIZE else NO_LIMIT)
    return _gaps_to_edges(edges, count, style != GAPS, pixels)


@_jit
def count_numbers(text, begin, end, texts, style):
    """How many numbers so many RLEs in text[begin:end] have at most."""
    if style == COCO:  # the last character of each number
        return _count_bytes(text, begin, end, U8(COCO_FIRST), U8(COCO_FIRST + 0x1F))
    return count_byte(text, begin, end, SPACE) + texts


@_jit
def read_text(text, size, style, base, pixels):
    """`read_runs` of text[:size]: (edges uint32, whether it is valid)."""
    edges = np.empty(count_numbers(text, 0, size, 1, style), U32)
    count = read_runs(text, 0, size, style, base, pixels, edges)
    return edges[: max(count, 0)], count >= 0


@_jit
def read_texts(text, begins, ends, style, base, pixels, edges, offsets):
    """`read_runs` of every row into one `edges` array; the index of the first wrong row, or -1 if none is.

    begins, ends, pixels int64 (N,); `offsets` int64 (N + 1,) receives where each row's edges lie.
    """
    offsets[0] = 0
    for row in range(begins.size):
        used = offsets[row]
        count = read_runs(text, begins[row], ends[row], style, base, pixels[row], edges[used:])
        if count < 0:
            return row
        offsets[row + 1] = used + count
    return -1


# ------------------------------------------------------------------------------------------- run-list algebra


@_jit
def area(edges):
    """Number of foreground pixels, int64."""
    total = np.int64(0)
    for run in range(edges.size >> 1):
        total += np.int64(edges[2 * run + 1]) - np.int64(edges[2 * run])
    return total


@_jit
def intersection(a, b):
    """Number of pixels in both masks, int64."""
    total = np.int64(0)
    i = 0
    j = 0
    while i < a.size and j < b.size:
        start = max(a[i], b[j])
        end_a = a[i + 1]
        end_b = b[j + 1]
        if end_a < end_b:
            if end_a > start:
                total += np.int64(end_a) - np.int64(start)
            i += 2
        else:
            if end_b > start:
                total += np.int64(end_b) - np.int64(start)
            j += 2
    return total


@_jit
def overlap(a, b):
    """(intersection, area of a, area of b), each int64."""
    return intersection(a, b), area(a), area(b)


@_jit
def areas(edges, offsets):
    """`area` of every row of a table, int64 (N,)."""
    out = np.empty(offsets.size - 1, np.int64)
    for row in range(out.size):
        out[row] = area(edges[offsets[row] : offsets[row + 1]])
    return out


@_jit
def intersections(edges_a, offsets_a, edges_b, offsets_b):
    """`intersection` of row i of one table with row i of another, int64 (N,)."""
    out = np.empty(offsets_a.size - 1, np.int64)
    for row in range(out.size):
        a = edges_a[offsets_a[row] : offsets_a[row + 1]]
        b = edges_b[offsets_b[row] : offsets_b[row + 1]]
        out[row] = intersection(a, b)
    return out


@_jit
def take_rows(edges, offsets, rows):
    """The edges of these rows, one after the other, and their offsets: (uint32, int64 (N + 1,))."""
    out_offsets = np.zeros(rows.size + 1, np.int64)
    for i in range(rows.size):
        out_offsets[i + 1] = out_offsets[i] + offsets[rows[i] + 1] - offsets[rows[i]]
    out = np.empty(out_offsets[-1], U32)
    for i in range(rows.size):
        count = out_offsets[i + 1] - out_offsets[i]
        _copy_bytes(_address(out) + 4 * out_offsets[i], _address(edges) + 4 * offsets[rows[i]], 4 * count)
    return out, out_offsets


@_jit
def _sweep(edges, cursors, ends, heads, weights, needed, out):
    """Step through all lists' edges at once, from one position to the next; the number of edges written.

    `heads` uint32 holds each list's next edge, 2**32 - 1 once it is used up. A list starts at an even index,
    so that an odd cursor means: inside one of its runs.
    """
    exhausted = U32(NO_LIMIT)
    written = 0
    inside = False
    weight = np.int64(0)
    position = heads.min()
    while position != exhausted:
        following = exhausted
        for k in range(heads.size):
            if heads[k] == position:
                cursors[k] += 1
                weight += weights[k] if cursors[k] & 1 else -weights[k]
                heads[k] = edges[cursors[k]] if cursors[k] < ends[k] else exhausted
            following = min(following, heads[k])
        out[written] = position
        written += np.int64((weight >= needed) != inside)
        inside = weight >= needed
        position = following
    if inside:  # an image of 2**32 - 1 pixels may end in a run whose edge is that very number
        out[written] = exhausted
        written += 1
    return written


@_jit
def weighted_union(edges, begins, ends, weights, needed, out):
    """Pixels whose masks' weights add up to at least `needed` > 0, as edges into `out`; their number.

    Mask k is edges[begins[k]:ends[k]], begins even, K > 0; weights int64 (K,). `out` has room for all masks'
    edges and one more.
    """
    heads = np.empty(begins.size, U32)
    for k in range(begins.size):
        heads[k] = edges[begins[k]] if begins[k] < ends[k] else U32(NO_LIMIT)
    return _sweep(edges, begins.copy(), ends, heads, weights, needed, out)


@_jit
def _unite_pairs(source, bounds, count, out):
    """Unite each two neighbours of `count` masks, from `source` into `out`; the number of masks that are left.

    Mask k is source[bounds[k]:bounds[k + 1]], bounds even, bounds[0] = 0: they become those of the unions. A last
    mask without a neighbour is copied.
    """
    written = 0
    for k in range(0, count, 2):
        i = bounds[k]
        j = end = bounds[k + 1]
        end_j = bounds[min(k + 2, count)]
        while i < end and j < end_j:
            # As in `_sweep`, an odd index means: inside one of the mask's runs.
            inside = (i | j) & 1
            edge = source[i]
            other = source[j]
            i += np.int64(edge <= other)
            j += np.int64(other <= edge)
            out[written] = min(edge, other)
            written += ((i | j) & 1) ^ inside
        # One mask has ended, outside its runs: the other's edges are the union's.
        for at in range(i, end):
            out[written] = source[at]
            written += 1
        for at in range(j, end_j):
            out[written] = source[at]
            written += 1
        bounds[k // 2 + 1] = written
    return (count + 1) // 2


@_jit
def unite_rows(edges, offsets, rows, groups):
    """One mask for each group of a table's rows: group g unites the rows rows[groups[g]:groups[g + 1]].

    Row i's edges are edges[offsets[i]:offsets[i + 1]]. No group is empty.
    Returns (edges uint32, offsets int64 (G + 1,)).

    Rows are united by twos, and the unions again, as a sweep over all of them would look at each for every edge.
    """
    taken, offsets = take_rows(edges, offsets, rows)
    out = np.empty(taken.size, U32)
    out_offsets = np.zeros(groups.size, np.int64)
    for group in range(groups.size - 1):
        bounds = offsets[groups[group] : groups[group + 1] + 1] - offsets[groups[group]]
        source = taken[offsets[groups[group]] :]
        target = out[out_offsets[group] :]
        count = bounds.size - 1
        is_out = False  # whether the masks are in `out` already; a single one is copied there
        while count > 1 or not is_out:
            count = _unite_pairs(source, bounds, count, target)
            source, target = target, source
            is_out = not is_out
        out_offsets[group + 1] = out_offsets[group] + bounds[1]
    return out[: out_offsets[-1]], out_offsets


@_jit
def combine_rows(edges, begins, ends, weights, needed):
    """`weighted_union` for each row of K tables whose edges follow one another in `edges`.

    Row i of table k is edges[begins[i, k]:ends[i, k]]. Returns (edges uint32, offsets int64 (N + 1,)).
    """
    out = np.empty(edges.size + 1, U32)
    offsets = np.zeros(begins.shape[0] + 1, np.int64)
    for row in range(begins.shape[0]):
        used = offsets[row]
        offsets[row + 1] = used + weighted_union(edges, begins[row], ends[row], weights, needed, out[used:])
    return out[: offsets[-1]], offsets


@_jit
def set_areas(edges, begins, ends):
    """Pixels of each row by the set of masks that they are in, int64 (N, 2**K); arguments as of `combine_rows`.

    Bit k of a set's number is table k. The empty set's pixels are not counted: nothing says where an image ends.
    """
    rows, masks = begins.shape
    out = np.zeros((rows, 1 << masks), np.int64)
    exhausted = U32(NO_LIMIT)
    cursors = np.empty(masks, np.int64)
    heads = np.empty(masks, U32)
    for row in range(rows):
        for k in range(masks):
            cursors[k] = begins[row, k]
            heads[k] = edges[cursors[k]] if cursors[k] < ends[row, k] else exhausted
        members = 0
        position = heads.min()
        while position != exhausted:
            following = exhausted
            for k in range(masks):
                if heads[k] == position:
                    cursors[k] += 1
                    members ^= 1 << k
                    heads[k] = edges[cursors[k]] if cursors[k] < ends[row, k] else exhausted
                following = min(following, heads[k])
            if members:
                out[row, members] += np.int64(following) - np.int64(position)
            position = following
    return out


# ------------------------------------------------------------------------------------- runs within the columns


@_jit
def column_segments(edges, height):
    """The runs, cut where a column ends: int64 (S, 3) of column, first row, row after the last; sorted."""
    count = 0
    for i in range(0, edges.size, 2):
        count += (np.int64(edges[i + 1]) - 1) // height - np.int64(edges[i]) // height + 1
    out = np.empty((count, 3), np.int64)
    found = 0
    for i in range(0, edges.size, 2):
        start = np.int64(edges[i])
        end = np.int64(edges[i + 1])
        while start < end:
            column = start // height
            stop = min(end, (column + 1) * height)
            out[found, 0] = column
            out[found, 1] = start - column * height
            out[found, 2] = stop - column * height
            found += 1
            start = stop
    return out


@_jit
def _first_segments(segments, width):
    """Index of each column's first segment, int64 (W + 1,); the last is the number of segments."""
    first = np.zeros(width + 1, np.int64)
    for i in range(segments.shape[0]):
        first[segments[i, 0] + 1] += 1
    for column in range(width):
        first[column + 1] += first[column]
    return first


@_inline
def _next_toggle(segments, i, end, inside):
    """The row at which a column's segments next begin or end; past all rows once they are used up."""
    return segments[i, 1 + inside] if i < end else np.int64(NO_LIMIT)


@_jit
def _row_changes(segments, first, width, rows, out, filling):
    """Where a pixel differs from its left neighbour, with background around the image.

    First without `filling`: `rows` int64 (H + 1,) gets the number of changes at every row as differences of
    neighbours. Then with it: `rows` has where each row's changes begin, and `out` gets them, as row * W + column.
    """
    for column in range(width + 1):
        i, i_end = (first[column - 1], first[column]) if column > 0 else (0, 0)
        j, j_end = (first[column], first[column + 1]) if column < width else (0, 0)
        in_left = 0
        in_right = 0
        begin = np.int64(-1)
        while i < i_end or j < j_end:
            left = _next_toggle(segments, i, i_end, in_left)
            right = _next_toggle(segments, j, j_end, in_right)
            row = min(left, right)
            if left == row:
                i += in_left
                in_left ^= 1
            if right == row:
                j += in_right
                in_right ^= 1
            if in_left != in_right and begin < 0:
                begin = row
            elif in_left == in_right and begin >= 0:
                if filling:
                    for changed in range(begin, row):
                        out[rows[changed]] = U32(changed * width + column)
                        rows[changed] += 1
                else:
                    rows[begin] += 1
                    rows[row] -= 1
                begin = np.int64(-1)


@_jit
def transposed(edges, height, width):
    """Column-major edges of a mask (H, W) -> its row-major ones; and back, with height and width exchanged.

    A row's runs change where neighbouring columns differ, so the time is that of the runs in both directions.
    """
    segments = column_segments(edges, height)
    first = _first_segments(segments, width)
    rows = np.zeros(height + 1, np.int64)
    nothing = np.empty(0, U32)
    _row_changes(segments, first, width, rows, nothing, False)
    changes = np.int64(0)
    begin = np.int64(0)
    for row in range(height):
        changes += rows[row]
        rows[row] = begin
        begin += changes
    out = np.empty(begin, U32)
    _row_changes(segments, first, width, rows, out, True)
    return out[: merge_touching(out, out.size)]


@_jit
def _root(parents, label):
    while parents[label] != label:
        parents[label] = parents[parents[label]]
        label = parents[label]
    return label


@_jit
def label_segments(segments, reach):
    """Connected components of `column_segments`: int64 (S,), numbered from 0 in order of first appearance.

    Segments of neighbouring columns are connected if they have a row in common, or, with a `reach` of 1, if
    they touch at a corner. Union-find, two cursors over neighbouring columns.
    """
    count = segments.shape[0]
    parents = np.arange(count)
    left = 0
    for i in range(count):
        column = segments[i, 0]
        while left < i and (
            segments[left, 0] < column - 1
            or (segments[left, 0] == column - 1 and segments[left, 2] + reach <= segments[i, 1])
        ):
            left += 1
        other = left
        while other < i and segments[other, 0] == column - 1 and segments[other, 1] < segments[i, 2] + reach:
            a = _root(parents, i)
            b = _root(parents, other)
            parents[max(a, b)] = min(a, b)
            other += 1
    labels = np.empty(count, np.int64)
    found = 0
    for i in range(count):
        root = _root(parents, i)
        if root == i:
            labels[i] = found
            found += 1
        else:
            labels[i] = labels[root]
    return labels


# ----------------------------------------------------------------------------------------- rows of a CSV file


@_jit
def gather_fields(text, fields, out):
    """Copy the fields, int64 (N, 2), into `out`, a newline behind each; the bytes written.

    `out` has room for all. -1 if a field has a quote or an end of a line in it, which need a CSV reader.
    """
    written = 0
    for row in range(fields.shape[0]):
        for at in range(fields[row, 0], fields[row, 1]):
            byte = text[at]
            if byte in (QUOTE, NEWLINE, RETURN):
                return -1
            out[written] = byte
            written += 1
        out[written] = NEWLINE
        written += 1
    return written


@_jit
def read_whole_numbers(text, fields, numbers):
    """The fields, int64 (N, 2), as whole numbers from 1 to NO_LIMIT: 0 for an empty one, -1 for anything else."""
    for row in range(fields.shape[0]):
        begin = fields[row, 0]
        end = fields[row, 1]
        value = np.int64(0) if end - begin <= 10 else np.int64(-1)
        for at in range(begin, end):
            digit = np.int64(text[at]) - ZERO
            value = value * 10 + digit if value >= 0 and 0 <= digit <= 9 else np.int64(-1)
        numbers[row] = value if begin == end or 0 < value <= NO_LIMIT else -1


@_jit
def count_lines(text, begin, end):
    """How many lines of text[begin:end] end with a newline and are not blank; 64 more bytes must be readable."""
    address = _address(text)
    total = 0
    newline_before = U64(1)  # bit 0: whether the byte in front of the block is one; bit 1: the one in front of that
    return_before = U64(0)
    for i in range(begin, end, BLOCK):
        newlines = _between64(address + i, U8(NEWLINE), U8(NEWLINE)) & _low_bits(min(end - i, BLOCK))
        if newlines == U64(0):  # as in most blocks of long texts
            newline_before = U64(0)
            return_before = U64(text[i + BLOCK - 1] == RETURN)
            continue
        returns = _between64(address + i, U8(RETURN), U8(RETURN))
        after_newline = (newlines << U64(1)) | (newline_before & U64(1))
        after_two = (newlines << U64(2)) | ((newline_before & U64(1)) << U64(1)) | ((newline_before >> U64(1)) & U64(1))
        after_return = (returns << U64(1)) | return_before
        total += _count_bits(newlines & ~(after_newline | (after_return & after_two)))
        newline_before = (newlines >> U64(63)) | ((newlines >> U64(61)) & U64(2))
        return_before = returns >> U64(63)
    return total


@_jit
def locate_fields(text, begin, end, separator, columns, fields, rows, widths):
    """Find fields of the records in text[begin:end]: parted by a byte, quoted where they start with a quote.

    columns int64 (C,): the wanted columns' indices. fields int64 (records, C, 2) receives where each field
    begins and ends, quotes included; rows int64 (records,) the record's number, blank lines included; widths int64
    (records,) the number of fields. All have room for one record more than `count_lines`.
    Returns (records, records and blank lines, whether a quote is left open).
    """
    address = _address(text)
    record = 0
    line = 0
    column = 0
    field = begin
    quoted = False
    for block in range(begin, end + 1, BLOCK):  # `end` itself counts as a newline
        special = (
            _between64(address + block, U8(separator), U8(separator))
            | _between64(address + block, U8(NEWLINE), U8(NEWLINE))
            | _between64(address + block, U8(QUOTE), U8(QUOTE))
        )
        if end - block < BLOCK:
            before_end = _low_bits(end - block)
            special = (special & before_end) | (before_end + U64(1))
        while special != U64(0):
            at = block + _lowest_bit(special)
            special &= special - U64(1)
            byte = text[at] if at < end else U8(NEWLINE)
            if byte == QUOTE:
                # a doubled quote inside a quoted field closes and opens it again
                if at == field or text[field] == QUOTE:
                    quoted = not quoted
                continue
            if quoted and at < end:
                continue
            stop = at - 1 if byte == NEWLINE and at > field and text[at - 1] == RETURN else at
            blank = column == 0 and stop == field
            for wanted in range(columns.size):
                if columns[wanted] == column:
                    fields[record, wanted, 0] = field
                    fields[record, wanted, 1] = stop
            field = at + 1
            column += 1
            if byte == NEWLINE:
                rows[record] = line
                widths[record] = column
                record += np.int64(not blank)
                line += 1
                column = 0
    return record, line, quoted
