// Hard alignment: the best path and its score.

#pragma once

#include <vector>

#include "pair.h"
#include "threads.h"

namespace {

// Score and path of one pair; ties as reference: the first maximum wins, and start < D < X < Y.
template <class R>
void hard_pair(const Batch& batch, int64_t b) {
    const auto p = pair_of<R>(batch, b);
    const R never = R(-1e37);
    int64_t* path = batch.path + b * (batch.n < batch.m ? batch.n : batch.m) * 2;
    std::vector<R> row(size_t(3 * p.m)), scores(size_t(p.m)), open(size_t(p.m)), extend(size_t(p.m));
    std::vector<uint8_t> choice(size_t(p.n * p.m));  // bits 0-1: where H came from; 2: X, 0 opened; 3-4: Y
    R *D = row.data(), *X = D + p.m, *Y = X + p.m;  // of the row above until overwritten
    for (auto& x : row) x = never;
    R best = -std::numeric_limits<R>::infinity();
    int64_t at = -1;
    bool sound = true;
    for (int64_t i = 0; i < p.n; i++) {
        read<R>(p.scores, i, 0, p.m, scores.data());
        read<R>(p.open.value, i, 0, p.m, open.data());
        read<R>(p.extend.value, i, 0, p.m, extend.data());
        uint8_t* to = choice.data() + i * p.m;
        R left_d = never, left_x = never, diagonal = 0;  // diagonal: H of (i-1, j-1)
        for (int64_t j = 0; j < p.m; j++) {
            const R s = scores[size_t(j)] <= R(FORBIDDEN) ? never : scores[size_t(j)];
            const R o = open[size_t(j)] > -never ? -never : open[size_t(j)];
            const R e = extend[size_t(j)] > -never ? -never : extend[size_t(j)];
            sound = sound && s == s && o == o && e == e;
            const R d = s + diagonal;
            const R above = D[j] > 0 ? D[j] : 0, both = X[j] > above ? X[j] : above;
            diagonal = Y[j] > both ? Y[j] : both;
            R x = left_d - o, y = D[j] - o;
            unsigned to_x = 0, to_y = 1, to_h = 0;
            if (left_x - e > x) x = left_x - e, to_x = 1;
            if (X[j] - o > y) y = X[j] - o, to_y = 2;
            if (Y[j] - e > y) y = Y[j] - e, to_y = 3;
            R h = 0;
            if (d > h) h = d, to_h = 1;
            if (x > h) h = x, to_h = 2;
            if (y > h) h = y, to_h = 3;
            to[j] = uint8_t(to_h | to_x << 2 | to_y << 3);
            D[j] = left_d = d;
            X[j] = left_x = x;
            Y[j] = y;
            if (d > best) best = d, at = i * p.m + j;
        }
    }
    int64_t found = 0;
    if (!sound) best = std::numeric_limits<R>::quiet_NaN();
    else if (!(best > never / 2)) best = 0;
    else {
        int64_t i = at / p.m, j = at % p.m;
        for (unsigned state = 1; state != 0 && i >= 0 && j >= 0;) {
            const unsigned here = choice[size_t(i * p.m + j)];
            if (state == 1) {
                path[2 * found] = i;
                path[2 * found + 1] = j;
                found++;
                i--, j--;
                state = i >= 0 && j >= 0 ? choice[size_t(i * p.m + j)] & 3 : 0;
            } else if (state == 2) {
                j--;
                state = here & 4 ? 2 : 1;
            } else {
                i--;
                state = here >> 3;
            }
        }
        for (int64_t k = 0; k < found / 2; k++)
            for (int64_t c = 0; c < 2; c++) std::swap(path[2 * k + c], path[2 * (found - 1 - k) + c]);
    }
    ((R*)batch.score)[b] = best;
    batch.count[b] = found;
}

template <class R>
void hard_batch(const Batch& batch) {
    parallel(smallest(batch.threads, batch.pairs), [&](int64_t k, int64_t count) {
        for (int64_t b = k; b < batch.pairs; b += count) hard_pair<R>(batch, b);
    });
}

}  // namespace
