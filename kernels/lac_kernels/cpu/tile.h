// Tiles of L steps by L lanes, in which the sweeps read and write tensors: along rows, transposed in registers.

#pragma once

#include "tensor.h"

namespace {

// The steps of a tile in which lane l stands on a valid column.
struct Valid {
    int64_t first, last;
    Valid(int64_t m, int64_t t, int64_t l, int64_t lanes) {
        first = t < l ? l - t : 0;
        last = m - (t - l) < lanes ? m - (t - l) : lanes;
    }
};

INLINE bool whole(int64_t n, int64_t m, int64_t i, int64_t t, int64_t lanes) {
    return i + lanes <= n && t >= lanes - 1 && t + lanes <= m;
}

template <class R>
void read_part(const Matrix& a, int64_t n, int64_t m, int64_t i, int64_t t, R fill, typename Lanes<R>::V* tile) {
    constexpr int L = Lanes<R>::L;
    for (int l = 0; l < L; l++) {
        const Valid valid(m, t, l, L);
        tile[l] = fill - typename Lanes<R>::V{};
        if (i + l < n && valid.first < valid.last)
            read<R>(a, i + l, t - l + valid.first, valid.last - valid.first, (R*)&tile[l] + valid.first);
    }
}

template <class R>
void write_part(char* out, int64_t type, int64_t width, int64_t n, int64_t m, int64_t i, int64_t t,
                const typename Lanes<R>::V* tile) {
    constexpr int L = Lanes<R>::L;
    for (int l = 0; l < L && i + l < n; l++) {
        const Valid valid(m, t, l, L);
        if (valid.first < valid.last)
            write<R>(out, type, (i + l) * width + t - l + valid.first, valid.last - valid.first,
                     (const R*)&tile[l] + valid.first);
    }
}

// Steps t .. t+L-1 of the strip of rows i .. i+L-1, one vector per step; `fill` outside the n x m valid cells.
template <class R>
INLINE void read_tile(const Matrix& a, int64_t n, int64_t m, int64_t i, int64_t t, R fill,
                      typename Lanes<R>::V* tile) {
    constexpr int L = Lanes<R>::L;
    const auto rows = [&](auto p) {
        using From = std::remove_const_t<std::remove_pointer_t<decltype(p)>>;
#pragma GCC unroll 16
        for (int l = 0; l < L; l++) {
            tile[l] = convert<typename Lanes<R>::V>(load<Few<From, L>>(p + l * (a.row - 1)));
            __builtin_prefetch(p + l * (a.row - 1) + 2 * L - 1);  // L rows at once: more than processors foresee
        }
    };
    const bool inside = whole(n, m, i, t, L) && a.column == 1;
    if (inside && a.type == own_type<R>) rows((const R*)a.data + i * a.row + t);
    else if (inside && a.type == FLOAT32) rows((const float*)a.data + i * a.row + t);
    else read_part<R>(a, n, m, i, t, fill, tile);
    transpose<R>(tile);
}

// The reverse, into rows of a contiguous (n, width) matrix of the given type. Destroys the tile.
template <class R>
INLINE void write_tile(char* out, int64_t type, int64_t width, int64_t n, int64_t m, int64_t i, int64_t t,
                       typename Lanes<R>::V* tile) {
    constexpr int L = Lanes<R>::L;
    transpose<R>(tile);
    const auto rows = [&](auto p) {
#pragma GCC unroll 16
        for (int l = 0; l < L; l++) {
            store(p + l * (width - 1), convert<Few<std::remove_pointer_t<decltype(p)>, L>>(tile[l]));
            __builtin_prefetch(p + l * (width - 1) - L, 1);
        }
    };
    const bool inside = whole(n, m, i, t, L);
    if (inside && type == own_type<R>) rows((R*)out + i * width + t);
    else if (inside && type == FLOAT32) rows((float*)out + i * width + t);
    else write_part<R>(out, type, width, n, m, i, t, tile);
}

// Subtracts a tile of gap shares from a gap's gradient; a gap with one value gets their sum returned instead.
template <class R>
R reduce_tile(const Gap& gap, int64_t n, int64_t m, int64_t i, int64_t t, typename Lanes<R>::V* tile) {
    constexpr int L = Lanes<R>::L;
    transpose<R>(tile);
    R all = 0;
    for (int l = 0; l < L && i + l < n; l++) {
        const Valid valid(m, t, l, L);
        const auto from = (const R*)&tile[l];
        R* to = (R*)gap.gradient + (i + l) * gap.row + (t - l) * gap.column;
        R total = 0;
        for (int64_t k = valid.first; k < valid.last; k++) total += from[k];
        if (gap.one()) all += total;
        else if (gap.column == 0) *to -= total;
        else
            for (int64_t k = valid.first; k < valid.last; k++) to[k * gap.column] -= from[k];
    }
    return all;
}

}  // namespace
