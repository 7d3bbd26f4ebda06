// Hard alignment: the best path and its score.

#pragma once

#include <limits>
#include <utility>
#include <vector>

#include "pair.h"
#include "threads.h"

namespace {

// Where H, X and Y of a cell came from, in a byte: H in bits 0-1 (START, FROM_D, ...), X in bit 2 (extended, not
// opened), Y in bits 3-4 (opened from FROM_D or FROM_X, extended from FROM_Y).
enum From : unsigned { START, FROM_D, FROM_X, FROM_Y };
constexpr unsigned H_BITS = 3, X_EXTENDED = 4, Y_SHIFT = 3;

template <class R>
constexpr R NEVER = R(-1e37);  // of all that no alignment reaches: sums of a few stay finite in float32

template <class R>
struct Best {
    R score = -std::numeric_limits<R>::infinity();
    int64_t cell = -1;  // where the best alignment ends
    bool sound = true;  // no NaN
};

// All cells of a pair. Ties as reference: the first maximum wins, and START < D < X < Y.
template <class R>
Best<R> fill(const Pair<R>& p, std::vector<uint8_t>& choices) {
    constexpr R never = NEVER<R>;
    Best<R> best;
    std::vector<R> row(size_t(3 * p.m), never), scores(size_t(p.m)), open(size_t(p.m)), extend(size_t(p.m));
    R *D = row.data(), *X = D + p.m, *Y = X + p.m;  // of the row above until overwritten
    for (int64_t i = 0; i < p.n; i++) {
        read<R>(p.scores, i, 0, p.m, scores.data());
        read<R>(p.open.value, i, 0, p.m, open.data());
        read<R>(p.extend.value, i, 0, p.m, extend.data());
        uint8_t* choice = choices.data() + i * p.m;
        R left_d = never, left_x = never, diagonal = 0;  // diagonal: H of (i-1, j-1)
        for (int64_t j = 0; j < p.m; j++) {
            const R s = scores[size_t(j)] <= R(FORBIDDEN) ? never : scores[size_t(j)];
            const R o = open[size_t(j)] > -never ? -never : open[size_t(j)];
            const R e = extend[size_t(j)] > -never ? -never : extend[size_t(j)];
            best.sound = best.sound && s == s && o == o && e == e;
            const R d = s + diagonal;
            const R above = D[j] > 0 ? D[j] : 0, both = X[j] > above ? X[j] : above;
            diagonal = Y[j] > both ? Y[j] : both;
            R x = left_d - o, y = D[j] - o, h = 0;
            unsigned from_x = 0, from_y = FROM_D, from_h = START;
            if (left_x - e > x) x = left_x - e, from_x = X_EXTENDED;
            if (X[j] - o > y) y = X[j] - o, from_y = FROM_X;
            if (Y[j] - e > y) y = Y[j] - e, from_y = FROM_Y;
            if (d > h) h = d, from_h = FROM_D;
            if (x > h) h = x, from_h = FROM_X;
            if (y > h) h = y, from_h = FROM_Y;
            choice[j] = uint8_t(from_h | from_x | from_y << Y_SHIFT);
            D[j] = left_d = d;
            X[j] = left_x = x;
            Y[j] = y;
            if (d > best.score) best.score = d, best.cell = i * p.m + j;
        }
    }
    return best;
}

// The matched frames of the alignment that ends at a cell, first to last; returns how many they are.
int64_t trace_back(const std::vector<uint8_t>& choices, int64_t cell, int64_t m, int64_t* path) {
    const auto choice = [&](int64_t i, int64_t j) { return unsigned(choices[size_t(i * m + j)]); };
    int64_t i = cell / m, j = cell % m, count = 0;
    for (unsigned state = FROM_D; state != START && i >= 0 && j >= 0;) {
        const unsigned here = choice(i, j);
        if (state == FROM_D) {
            path[2 * count] = i--;
            path[2 * count + 1] = j--;
            count++;
            state = i >= 0 && j >= 0 ? choice(i, j) & H_BITS : unsigned(START);
        } else if (state == FROM_X) {
            j--;
            state = here & X_EXTENDED ? FROM_X : FROM_D;
        } else {
            i--;
            state = here >> Y_SHIFT;
        }
    }
    for (int64_t k = 0; k < count / 2; k++)
        for (int64_t side = 0; side < 2; side++) std::swap(path[2 * k + side], path[2 * (count - 1 - k) + side]);
    return count;
}

// NaN where there is one; 0 and no path where every cell is forbidden.
template <class R>
void hard_pair(const Batch& batch, int64_t b) {
    const auto p = pair_of<R>(batch, b);
    std::vector<uint8_t> choices(size_t(p.n * p.m));
    Best<R> best = fill(p, choices);
    int64_t count = 0;
    if (!best.sound) best.score = std::numeric_limits<R>::quiet_NaN();
    else if (!(best.score > NEVER<R> / 2)) best.score = 0;
    else count = trace_back(choices, best.cell, p.m, batch.path + b * smallest(batch.n, batch.m) * 2);
    ((R*)batch.score)[b] = best.score;
    batch.count[b] = count;
}

template <class R>
void hard_batch(const Batch& batch) {
    parallel(smallest(batch.threads, batch.pairs), [&](int64_t k, int64_t count) {
        for (int64_t b = k; b < batch.pairs; b += count) hard_pair<R>(batch, b);
    });
}

}  // namespace
