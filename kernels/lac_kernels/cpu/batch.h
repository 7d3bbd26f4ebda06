// What Python and the library say to each other: batch.py has the same fields, constants and formula. `layout` says
// them in one line, and Python compares it with its own once, when it loads the library.

#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "vector.h"

namespace {

enum Type : int64_t { FLOAT32 = 0, FLOAT64 = 1, FLOAT16 = 2, BFLOAT16 = 3 };

int64_t size_of(int64_t type) { return type == FLOAT64 ? 8 : type == FLOAT32 ? 4 : 2; }

// A tensor (1 | batch, 1 | N, 1 | M): strides in elements, 0 where it is broadcast. Without data: there is none.
#define TENSOR_FIELDS(FIELD) \
    FIELD(char*, data)       \
    FIELD(int64_t, batch)    \
    FIELD(int64_t, row)      \
    FIELD(int64_t, column)   \
    FIELD(int64_t, type)

// A batch of pairs. d_ are gradients, v_ is the direction of second order. Of the engine's own type: the gaps, their
// gradients and directions, temperature, score and grad.
#define BATCH_FIELDS(FIELD)         \
    FIELD(int64_t, pairs)           \
    FIELD(int64_t, n)               \
    FIELD(int64_t, m)               \
    FIELD(int64_t, threads)         \
    FIELD(int64_t, gaps)            \
    FIELD(Tensor, scores)           \
    FIELD(Tensor, gap_open)         \
    FIELD(Tensor, gap_extend)       \
    FIELD(const char*, temperature) \
    FIELD(const int32_t*, lengths1) \
    FIELD(const int32_t*, lengths2) \
    FIELD(char*, score)             \
    FIELD(char*, saved)             \
    FIELD(int64_t, saved_bytes)     \
    FIELD(const char*, grad)        \
    FIELD(int64_t, grad_stride)     \
    FIELD(Tensor, d_scores)         \
    FIELD(Tensor, d_gap_open)       \
    FIELD(Tensor, d_gap_extend)     \
    FIELD(Tensor, v_scores)         \
    FIELD(Tensor, v_gap_open)       \
    FIELD(Tensor, v_gap_extend)     \
    FIELD(int64_t*, path)           \
    FIELD(int64_t*, count)

#define DECLARE(type, name) type name;

struct Tensor {
    TENSOR_FIELDS(DECLARE)
};

struct Batch {
    BATCH_FIELDS(DECLARE)
};

#undef DECLARE

// Whether a gap differs from cell to cell of a pair.
bool by_cell(const Batch& batch) {
    for (const Tensor* gap : {&batch.gap_open, &batch.gap_extend, &batch.v_gap_open, &batch.v_gap_extend})
        if (gap->row || gap->column) return true;
    return false;
}

// What the forward keeps of a pair. Each call compares the room that Python made with this: beyond it lies the memory
// of others.
constexpr int64_t ROWS = 64;         // of a block
constexpr int64_t COLUMNS = 192;     // steps of a window
constexpr int64_t MOST_LANES = 16;   // of any processor: what is kept has one size on all of them
constexpr int64_t HEADER_BYTES = 40;
static_assert(Lanes<float>::L <= MOST_LANES && MOST_LANES <= ROWS, "a strip of MOST_LANES rows holds any other");

struct Room {
    int64_t edges;    // rows above blocks
    int64_t windows;  // that start within a strip: a block takes less than m + ROWS + MOST_LANES steps
    Room(int64_t n, int64_t m) : edges((n + ROWS - 1) / ROWS - 1), windows((m + ROWS + MOST_LANES) / COLUMNS) {}
    // `number`: the bytes of each number. Two of them are kept per column of an edge, four per lane of a window.
    int64_t bytes(int64_t n, int64_t m, int64_t number) const {
        const int64_t lanes = (n + MOST_LANES - 1) / MOST_LANES * MOST_LANES;
        return HEADER_BYTES + number * (edges * m * 2 + windows * lanes * 4);
    }
};

std::string layout() {
    std::string text;
    const auto add = [&](const std::string& name, int64_t value) { text += name + ":" + std::to_string(value) + " "; };
#define TENSOR_OFFSET(type, name) add("tensor." #name, offsetof(Tensor, name));
#define BATCH_OFFSET(type, name) add(#name, offsetof(Batch, name));
    TENSOR_FIELDS(TENSOR_OFFSET)
    BATCH_FIELDS(BATCH_OFFSET)
#undef TENSOR_OFFSET
#undef BATCH_OFFSET
    add("bytes", sizeof(Batch));
    add("float32", FLOAT32);
    add("float64", FLOAT64);
    add("float16", FLOAT16);
    add("bfloat16", BFLOAT16);
    add("rows", ROWS);
    add("columns", COLUMNS);
    add("lanes", MOST_LANES);
    add("header", HEADER_BYTES);
    text.pop_back();
    return text;
}

}  // namespace
