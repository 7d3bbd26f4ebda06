// One pair of sequences: what it is aligned with, and what the forward keeps of it.

#pragma once

#include <climits>
#include <cmath>

#include "number.h"
#include "tensor.h"

namespace {

// A sum m 2^e and its derivative t 2^e, whatever the exponents of what it adds.
struct Total {
    static constexpr int64_t OUT_OF_REACH = 2000;  // powers of two, between two doubles
    double m = 0, t = 0;
    int64_t e = INT64_MIN / 4;  // below all exponents, and differences stay in range
    void add(double x, double derivative, int64_t at) {
        if (x == 0) return;
        if (at > e) {
            m = at - e > OUT_OF_REACH ? 0 : std::ldexp(m, int(e - at));
            t = at - e > OUT_OF_REACH ? 0 : std::ldexp(t, int(e - at));
            e = at;
        }
        if (e - at < OUT_OF_REACH) {
            m += std::ldexp(x, int(at - e));
            t += std::ldexp(derivative, int(at - e));
        }
    }
};

enum Kind : int64_t { SOUND, EMPTY, NOT_FINITE };  // EMPTY: no alignment has any weight

// Of what the forward keeps of a pair.
struct Header {
    Total z;
    int64_t kind;
    int64_t shared;
};
static_assert(sizeof(Header) == HEADER_BYTES, "batch.py makes room for it");

template <class R>
struct Pair {
    static constexpr int L = Lanes<R>::L, STRIPS = ROWS / L;
    Rate<R> rate;
    Room room;  // in `saved`
    Matrix scores, direction;
    Gap open, extend;
    int64_t n, m;   // the valid rows and columns
    int64_t width;  // columns of d_scores and of edges
    Number<R> open_weight, extend_weight;  // exp of a penalty that is one for the whole pair; if `shared` a plain m
    char* saved;
    char* d_scores;
    int64_t d_type;
    bool shared = false;   // d, x and y of a cell share one exponent
    R grad_over_z = 0;     // these three for the backward: Z of the header, its derivative over Z, its exponent - BIAS
    R z_derivative = 0;
    typename Lanes<R>::I z_low = 0;

    Pair(const Rate<R>& r, const Room& in_saved) : rate(r), room(in_saved) {}

    int64_t steps() const { return (m + 2 * L - 2) / L * L; }
    int64_t blocks() const { return m > 0 ? (n + ROWS - 1) / ROWS : 0; }
    int64_t strips(int64_t block) const {
        const int64_t rows = n - block * ROWS;
        return ((rows < ROWS ? rows : ROWS) + L - 1) / L;
    }
    int64_t row(int64_t block, int64_t strip) const { return block * ROWS + strip * L; }
    int64_t windows_of(int64_t block) const { return (L * (strips(block) - 1) + steps() + COLUMNS - 1) / COLUMNS; }
    Header* header() const { return (Header*)saved; }
    // The row above block >= 1: d + x and y, each with `parts` runs of `width`.
    R* edge(int64_t block, int64_t parts) const {
        return (R*)(saved + sizeof(Header)) + (block - 1) * width * 2 * parts;
    }
    // The lanes of a strip where window >= 1 starts.
    R* lanes(int64_t block, int64_t k, int64_t window, int64_t parts) const {
        return (R*)(saved + sizeof(Header)) + room.edges * width * 2 * parts +
               ((block * STRIPS + k) * room.windows + window - 1) * 4 * parts * L;
    }
};

// The exp of a penalty where the whole pair has one.
template <class R>
Number<R> exponential_of(const Gap& gap, const Rate<R>& rate) {
    typename Lanes<R>::VI sound{};
    return exponential<R>(-number_at<R>(gap.value.data) - typename Lanes<R>::V{}, rate, sound);
}

template <class R>
Pair<R> pair_of(const Batch& batch, int64_t b) {
    const Rate<R> rate(LOG2_E / (batch.temperature ? number_at<R>(batch.temperature) : 1));
    const Gap open = gap_of(batch.gap_open, batch.d_gap_open, batch.v_gap_open, b);
    const Gap extend = gap_of(batch.gap_extend, batch.d_gap_extend, batch.v_gap_extend, b);
    Pair<R> p(rate, Room(batch.n, batch.m));
    p.scores = matrix_of(batch.scores, b);
    p.direction = matrix_of(batch.v_scores, b);
    p.open = open, p.extend = extend;
    p.n = batch.lengths1 ? batch.lengths1[b] : batch.n;
    p.m = batch.lengths2 ? batch.lengths2[b] : batch.m;
    p.width = batch.m;
    p.open_weight = exponential_of(open, rate);
    p.extend_weight = exponential_of(extend, rate);
    p.saved = batch.saved ? batch.saved + b * batch.saved_bytes : nullptr;
    p.d_scores = batch.d_scores.data + b * batch.n * batch.m * size_of(batch.d_scores.type);
    p.d_type = batch.d_scores.type;
    return p;
}

}  // namespace
