// One pair of sequences: what it is aligned with, and what the forward keeps of it.

#pragma once

#include <climits>
#include <cmath>

#include "number.h"
#include "tensor.h"

namespace {

struct Total {  // m 2^e and its derivative t 2^e
    double m = 0, t = 0;
    int64_t e = INT64_MIN / 4;
    void add(double x, double derivative, int64_t at) {
        if (x == 0) return;
        if (at > e) {
            m = at - e > 2000 ? 0 : std::ldexp(m, int(e - at));
            t = at - e > 2000 ? 0 : std::ldexp(t, int(e - at));
            e = at;
        }
        if (e - at < 2000) {
            m += std::ldexp(x, int(at - e));
            t += std::ldexp(derivative, int(at - e));
        }
    }
};

enum Kind : int64_t { SOUND, EMPTY, NOT_FINITE };

struct Header {  // of what the forward keeps of a pair
    Total z;
    int64_t kind;
    int64_t shared;
};
static_assert(sizeof(Header) == HEADER_BYTES, "");

template <class R>
struct Pair {
    static constexpr int L = Lanes<R>::L, STRIPS = ROWS / L;
    Matrix scores, direction;
    Gap open, extend;
    int64_t n, m, width;
    Rate<R> rate;
    Number<R> go, ge;  // where the whole pair has one penalty
    char* saved;
    Room room;  // there
    char* d_scores;
    int64_t d_type;
    bool shared = false;  // d, x and y of a cell share one exponent
    R grad_over_z = 0, z_derivative = 0;  // the latter over Z
    typename Lanes<R>::I z_low = 0;

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

// NaN where there is NaN or an infinity.
template <class R>
R largest_magnitude(const Matrix& a, int64_t n, int64_t m) {
    using V = typename Lanes<R>::V;
    constexpr int L = Lanes<R>::L, WIDTH = 4 * L;
    V most{}, spoilt{};
    R part[WIDTH];
    const int64_t rows = a.row ? n : 1, columns = a.column ? m : 1;
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j += WIDTH) {
            const R* from = part;
            if (a.column == 1 && a.type == own_type<R> && j + WIDTH <= columns) {
                from = (const R*)a.data + i * a.row + j;
            } else {
                for (auto& x : part) x = 0;
                read<R>(a, i, j, columns - j < WIDTH ? columns - j : WIDTH, part);
            }
            for (int k = 0; k < 4; k++) {
                const V x = load<V>(from + k * L);
                most = largest(most, x > V{} ? x : -x);
                spoilt += x - x;
            }
        }
    R result = 0, nan = 0;
    for (int l = 0; l < L; l++) {
        result = largest(result, most[l]);
        nan += spoilt[l];
    }
    return result + nan;
}

// H of neighbouring cells differ by two gaps at most, d and h by one score more; with this bound, a value that is
// 2^126 times smaller than another of its cell can nowhere come to matter.
template <class R>
bool fits_shared(const Pair<R>& p) {
    const R score = largest_magnitude<R>(p.scores, p.n, p.m);
    for (const Gap* gap : {&p.open, &p.extend})
        if (!((score + 2 * largest_magnitude<R>(gap->value, p.n, p.m)) * p.rate.whole <= R(52))) return false;
    return true;
}

template <class R>
void share_exponents(Pair<R>& p) {
    p.shared = true;
    p.go.m = plain_exponential<R>(-*(const R*)p.open.value.data - typename Lanes<R>::V{}, p.rate);
    p.ge.m = plain_exponential<R>(-*(const R*)p.extend.value.data - typename Lanes<R>::V{}, p.rate);
}

Gap gap_of(const Tensor& value, const Tensor& gradient, const Tensor& direction, int64_t b) {
    return {matrix_of(value, b), matrix_of(direction, b),
            gradient.data ? gradient.data + b * gradient.batch * size_of(gradient.type) : nullptr, gradient.row,
            gradient.column};
}

template <class R>
R number_at(const void* data) {
    return *(const R*)data;
}

// The exp of a penalty where the whole pair has one.
template <class R>
Number<R> exponential_of(const Gap& gap, const Rate<R>& rate) {
    typename Lanes<R>::VI sound{};
    return exponential<R>(-number_at<R>(gap.value.data) - typename Lanes<R>::V{}, rate, sound);
}

template <class R>
Pair<R> pair_of(const Batch& batch, int64_t b) {
    constexpr long double log2_e = 1.442695040888963407359924681001892137L;
    const Rate<R> rate(log2_e / (batch.temperature ? number_at<R>(batch.temperature) : 1));
    const Gap open = gap_of(batch.gap_open, batch.d_gap_open, batch.v_gap_open, b);
    const Gap extend = gap_of(batch.gap_extend, batch.d_gap_extend, batch.v_gap_extend, b);
    return {matrix_of(batch.scores, b), matrix_of(batch.v_scores, b), open, extend,
            batch.lengths1 ? batch.lengths1[b] : batch.n, batch.lengths2 ? batch.lengths2[b] : batch.m, batch.m,
            rate, exponential_of(open, rate), exponential_of(extend, rate),
            batch.saved ? batch.saved + b * batch.saved_bytes : nullptr, Room(batch.n, batch.m),
            batch.d_scores.data + b * batch.n * batch.m * size_of(batch.d_scores.type), batch.d_scores.type};
}

}  // namespace
