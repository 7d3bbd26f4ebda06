// Rows of numbers between one strip and the next.

#pragma once

#include "memory.h"
#include "number.h"

namespace {

// Numbers along the columns, between one strip and the next: mantissas, exponents and derivatives.
template <class N>
struct Row {
    using R = typename N::Real;
    using I = typename N::T::I;
    R* m;
    I* e;
    R* t;
    N from(int64_t c) const {
        N x;
        x.m = load<typename N::T::V>(m + c);
        x.e = load<typename N::T::VI>(e + c);
        if constexpr (N::DUAL) x.t = load<typename N::T::V>(t + c);
        return x;
    }
    void put(int64_t c, const N& x) {
        store(m + c, x.m);
        store(e + c, x.e);
        if constexpr (N::DUAL) store(t + c, x.t);
    }
    void take(int64_t c, const N& x, int lane) {
        m[c] = ((const R*)&x.m)[lane];
        e[c] = ((const I*)&x.e)[lane];
        if constexpr (N::DUAL) t[c] = ((const R*)&x.t)[lane];
    }
    // A part of the row, from and to memory that holds rows of `width`.
    void save(int64_t c, int64_t count, R* to, int64_t width) const {
        std::memcpy(to, m + c, size_t(count) * sizeof(R));
        std::memcpy(to + width, e + c, size_t(count) * sizeof(R));
        if constexpr (N::DUAL) std::memcpy(to + 2 * width, t + c, size_t(count) * sizeof(R));
    }
    void restore(int64_t c, int64_t count, const R* kept, int64_t width) {
        std::memcpy(m + c, kept, size_t(count) * sizeof(R));
        std::memcpy(e + c, kept + width, size_t(count) * sizeof(R));
        if constexpr (N::DUAL) std::memcpy(t + c, kept + 2 * width, size_t(count) * sizeof(R));
    }
};

// Lane l takes lane l-1 and lane 0 what the strip above has at column c; downwards the other way round.
template <class N>
INLINE N above(const N& v, const Row<N>& row, int64_t c) {
    using VI = typename N::T::VI;
    std::make_integer_sequence<int, N::T::L> lanes;
    const auto in = row.from(c - N::T::L + 1);
    N x;
    x.m = up<VI>(v.m, in.m, lanes);
    x.e = up<VI>(v.e, in.e, lanes);
    if constexpr (N::DUAL) x.t = up<VI>(v.t, in.t, lanes);
    return x;
}

template <class N>
INLINE N under(const N& v, const Row<N>& row, int64_t c) {
    using VI = typename N::T::VI;
    std::make_integer_sequence<int, N::T::L> lanes;
    const auto in = row.from(c);
    N x;
    x.m = down<VI>(v.m, in.m, lanes);
    x.e = down<VI>(v.e, in.e, lanes);
    if constexpr (N::DUAL) x.t = down<VI>(v.t, in.t, lanes);
    return x;
}

// Three rows of numbers over columns -2 L .. m + 4 L.
// Forward, the last row of the strip above: d + x, y, h. Backward, the first row of the strip below: o by, e by, s bd.
template <class N>
struct Rows {
    using R = typename N::Real;
    Memory memory;
    Row<N> row[3];
    void reserve(int64_t m) {
        constexpr int L = N::T::L;
        const int64_t length = (m + 7 * L) / L * L;
        memory.reserve(size_t(3 * N::PARTS * length) * sizeof(R));
        R* p = (R*)memory.p + 2 * L;
        for (auto& r : row) {
            r = {p, (typename N::T::I*)(p + length), N::DUAL ? p + 2 * length : nullptr};
            p += N::PARTS * length;
        }
    }
    void take(int64_t c, int lane, const N& value0, const N& value1, const N& value2) {
        row[0].take(c, value0, lane);
        row[1].take(c, value1, lane);
        row[2].take(c, value2, lane);
    }
    void fill(int64_t first, int64_t last, N value0, N value1, N value2) {
        for (int64_t c = first; c < last; c += N::T::L) {
            row[0].put(c, value0);
            row[1].put(c, value1);
            row[2].put(c, value2);
        }
    }
};

}  // namespace
