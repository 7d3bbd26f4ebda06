// A batch as Python gives it.

#pragma once

#include "pair.h"

namespace {

// Everything in elements but addresses. cpu.py fills it in this order.
struct Problem {
    int64_t batch, n, m, type, threads, save, gaps, d_type;
    int64_t scores, scores_batch, scores_row, scores_column;
    int64_t open, open_batch, open_row, open_column;
    int64_t extend, extend_batch, extend_row, extend_column;
    int64_t temperature, lengths1, lengths2;
    int64_t score, saved, saved_batch, saved_edges, saved_windows;
    int64_t grad, grad_stride, d_scores;
    int64_t d_open, d_open_batch, d_open_row, d_open_column, d_open_size;
    int64_t d_extend, d_extend_batch, d_extend_row, d_extend_column, d_extend_size;
    int64_t path, count;
    int64_t v_scores, v_scores_batch, v_scores_row, v_scores_column, v_type;
    int64_t v_open, v_open_batch, v_open_row, v_open_column;
    int64_t v_extend, v_extend_batch, v_extend_row, v_extend_column;
};

static_assert(sizeof(Problem) == 56 * 8, "as cpu.py packs it");

int64_t size_of(int64_t type) { return type == FLOAT64 ? 8 : type == FLOAT32 ? 4 : 2; }

template <class R>
int64_t length(int64_t lengths, int64_t b, int64_t full) {
    return lengths ? ((const int32_t*)lengths)[b] : full;
}

template <class R>
Pair<R> pair_of(const Problem& q, int64_t b) {
    const int64_t r = sizeof(R);
    const long double c = 1.442695040888963407359924681001892137L / (q.temperature ? *(const R*)q.temperature : 1);
    const int own = own_type<R>;
    Gap open{{(const char*)q.open + b * q.open_batch * r, q.open_row, q.open_column, own},
             {(const char*)q.v_open + b * q.v_open_batch * r, q.v_open_row, q.v_open_column, own},
             q.d_open ? (char*)q.d_open + b * q.d_open_batch * r : nullptr, q.d_open_row, q.d_open_column};
    Gap extend{{(const char*)q.extend + b * q.extend_batch * r, q.extend_row, q.extend_column, own},
               {(const char*)q.v_extend + b * q.v_extend_batch * r, q.v_extend_row, q.v_extend_column, own},
               q.d_extend ? (char*)q.d_extend + b * q.d_extend_batch * r : nullptr, q.d_extend_row, q.d_extend_column};
    const char* scores = (const char*)q.scores + b * q.scores_batch * size_of(q.type);
    const char* direction = (const char*)q.v_scores + b * q.v_scores_batch * size_of(q.v_type);
    Pair<R> p{{scores, q.scores_row, q.scores_column, int(q.type)},
              {direction, q.v_scores_row, q.v_scores_column, int(q.v_type)},
              open, extend,
              length<R>(q.lengths1, b, q.n), length<R>(q.lengths2, b, q.m), q.m,
              Rate<R>(c), {}, {},
              (char*)q.saved + b * q.saved_batch, q.saved_edges, q.saved_windows, q.save != 0,
              (char*)q.d_scores + b * q.n * q.m * size_of(q.d_type), int(q.d_type)};
    typename Lanes<R>::VI sound{};
    using V = typename Lanes<R>::V;
    p.go = exponential<R>(-*(const R*)open.value.data - V{}, p.rate, sound);
    p.ge = exponential<R>(-*(const R*)extend.value.data - V{}, p.rate, sound);
    return p;
}

bool by_cell(const Problem& q) {
    return q.open_row || q.open_column || q.extend_row || q.extend_column || q.v_open_row || q.v_open_column ||
           q.v_extend_row || q.v_extend_column;
}

}  // namespace
