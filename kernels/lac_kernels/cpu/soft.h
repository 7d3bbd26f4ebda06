// The soft alignment of a batch: score and gradients. Threads share its pairs; where there are fewer pairs than threads
// they share the blocks of each pair.

#pragma once

#include <vector>

#include "block.h"
#include "pair.h"

namespace {

// What a pair's score is where exponents do not reach: NaN beside NaN, else its largest score if all are too low or one
// is infinite, else NaN: a limit of the engine, and no plausible number.
template <class R>
double beyond(const Pair<R>& p, bool too_low) {
    R x, most = -std::numeric_limits<R>::infinity();
    bool nan = std::isnan(p.rate.whole);
    for (const Matrix* a : {&p.scores, &p.open.value, &p.extend.value})
        for (int64_t i = 0; i < p.n && !nan; i++)
            for (int64_t j = 0; j < p.m && !nan; j++) {
                read<R>(*a, i, j, 1, &x);
                nan = std::isnan(x);
                if (a == &p.scores && x > most) most = x;
            }
    return !nan && (too_low || std::isinf(most)) ? most : std::numeric_limits<double>::quiet_NaN();
}

template <class N, class R = typename N::Real>
void finish_forward(const Batch& batch, const Pair<R>& p, int64_t b, const std::vector<Partial>& blocks) {
    Total z;
    bool sound = p.rate.whole >= 0;
    for (const auto& part : blocks) {
        z.add(part.z.m, part.z.t, part.z.e);
        sound = sound && part.sound;
    }
    if (!by_cell(batch) && p.n > 0 && p.m > 0)
        for (const Gap* gap : {&p.open, &p.extend}) {
            const R x = number_at<R>(gap->value.data);
            sound = sound && -x * p.rate.whole < R(Lanes<R>::MOST);
        }
    double score;
    Kind kind = SOUND;
    const bool too_low = sound && (z.m == 0 || z.e < -Lanes<R>::MOST);
    if (too_low || !sound) {
        score = beyond(p, too_low);
        kind = score <= FORBIDDEN ? EMPTY : NOT_FINITE;
        if (kind == EMPTY) score = 0;
        else if (N::DUAL) score = std::numeric_limits<double>::quiet_NaN();
    } else if (N::DUAL) {
        score = z.t / z.m;
    } else {
        int e;
        z.m = 2 * std::frexp(z.m, &e);
        z.e += e - 1;
        score = double(number_at<R>(batch.temperature)) * (std::log(z.m) + double(z.e) * double(LN_2));
    }
    ((R*)batch.score)[b] = R(score);
    if (p.saved) *p.header() = {z, kind, p.shared};
}

// The gradient of what lies outside the valid cells.
template <class R>
void zero_padding(const Batch& batch, const Pair<R>& p) {
    const int64_t size = size_of(p.d_type);
    for (int64_t i = 0; i < batch.n; i++) {
        const int64_t valid = i < p.n ? p.m : 0;
        std::memset(p.d_scores + (i * batch.m + valid) * size, 0, size_t((batch.m - valid) * size));
    }
}

// The gradient of the scores of a pair that has none (0) or whose score is not finite (NaN).
template <class R>
void fill_gradient(const Pair<R>& p, R value) {
    for (int64_t i = 0; i < p.n; i++)
        for (int64_t j = 0; j < p.m; j++) write<R>(p.d_scores, p.d_type, i * p.width + j, 1, &value);
}

template <class R>
void fill_gap_gradient(const Pair<R>& p, const Gap& gap, R value) {
    for (int64_t i = 0; i < (gap.row ? p.n : 1); i++)
        for (int64_t j = 0; j < (gap.column ? p.m : 1); j++)
            ((R*)gap.gradient)[i * gap.row + j * gap.column] = value;
}

// Fills what needs no sweep; true if the pair needs one.
template <class N, class R = typename N::Real>
bool start_backward(const Batch& batch, Pair<R>& p, int64_t b, GapSums& d_gaps) {
    const Header header = *p.header();
    const bool sweep = header.kind == SOUND && p.n > 0 && p.m > 0;
    if (header.shared) share_exponents(p);
    if (p.n < batch.n || p.m < batch.m) zero_padding(batch, p);
    if (sweep) {
        const R grad = ((const R*)batch.grad)[b * batch.grad_stride];
        p.grad_over_z = R(double(grad) / header.z.m);
        if (N::DUAL) {
            p.grad_over_z /= number_at<R>(batch.temperature);
            p.z_derivative = R(header.z.t / header.z.m);
        }
        p.z_low = typename Lanes<R>::I(header.z.e - Lanes<R>::BIAS);
        return true;
    }
    const R value = header.kind == NOT_FINITE ? std::numeric_limits<R>::quiet_NaN() : R(0);
    fill_gradient(p, value);
    if (batch.gaps && header.kind == NOT_FINITE) {
        d_gaps[OPEN] = d_gaps[EXTEND] = value;
        for (const Gap* gap : {&p.open, &p.extend})
            if (!gap->one()) fill_gap_gradient(p, *gap, value);
    }
    return false;
}

bool pairs_are_few(const Batch& batch) { return batch.pairs < batch.threads && batch.n > ROWS; }

template <class N, class R = typename N::Real>
Pair<R> start_forward(const Batch& batch, int64_t b) {
    auto p = pair_of<R>(batch, b);
    if (!N::DUAL && fits_shared(p)) share_exponents(p);
    return p;
}

template <class N, bool CELL>
void forward_between_pairs(const Batch& batch) {
    parallel(smallest(batch.threads, batch.pairs), [&](int64_t k, int64_t count) {
        Rows<N> top;
        top.reserve(batch.m);
        for (int64_t b = k; b < batch.pairs; b += count) {
            const auto p = start_forward<N>(batch, b);
            std::vector<Partial> parts(size_t(p.blocks()));
            with_exponents<N>(p, [&](auto exponents) {
                using P = decltype(exponents);
                start_top<P>(p, top);
                for (int64_t block = 0; block < p.blocks(); block++)
                    forward_block<P, CELL>(p, block, top, nullptr, parts[size_t(block)]);
            });
            finish_forward<N>(batch, p, b, parts);
        }
    });
}

template <class N, bool CELL>
void forward_within_a_pair(const Batch& batch) {
    Rows<N> top;
    top.reserve(batch.m);
    for (int64_t b = 0; b < batch.pairs; b++) {
        const auto p = start_forward<N>(batch, b);
        std::vector<Partial> parts(size_t(p.blocks()));
        Progress progress(p.blocks());
        with_exponents<N>(p, [&](auto exponents) {
            using P = decltype(exponents);
            start_top<P>(p, top);
            parallel(batch.threads, [&](int64_t k, int64_t count) {
                for (int64_t block = k; block < p.blocks(); block += count)
                    forward_block<P, CELL>(p, block, top, &progress, parts[size_t(block)]);
            });
        });
        finish_forward<N>(batch, p, b, parts);
    }
}

template <class N, bool CELL>
void forward_batch(const Batch& batch) {
    pairs_are_few(batch) ? forward_within_a_pair<N, CELL>(batch) : forward_between_pairs<N, CELL>(batch);
}

// The values of a gap's gradient that several pairs add to, for each thread has a copy of it; 0 where none is needed:
// a pair's own, or one number, whose sums are kept apart.
size_t copied_values(const Batch& batch, const Tensor& gradient) {
    if (!batch.gaps || batch.pairs == 1 || gradient.batch || !(gradient.row || gradient.column)) return 0;
    return size_t((gradient.row ? batch.n : 1) * (gradient.column ? batch.m : 1));
}

// What one thread needs besides the tensors.
template <class N>
struct Workspace {
    Rows<N> top, below;
    Memory slots;
    std::vector<typename N::Real> d_gap_open, d_gap_extend;  // copies
};

template <class R>
void add_copy(const std::vector<R>& copy, const Tensor& gradient) {
    for (size_t k = 0; k < copy.size(); k++) ((R*)gradient.data)[k] += copy[k];
}

template <class N, bool GAPS, bool CELL, class R = typename N::Real>
void backward_between_pairs(const Batch& batch, std::vector<Partial>& sums) {
    std::vector<Workspace<N>> work(size_t(smallest(batch.threads, batch.pairs)));
    for (auto& own : work) {
        own.top.reserve(batch.m);
        own.below.reserve(batch.m);
        own.d_gap_open.assign(copied_values(batch, batch.d_gap_open), R(0));
        own.d_gap_extend.assign(copied_values(batch, batch.d_gap_extend), R(0));
    }
    parallel(int64_t(work.size()), [&](int64_t k, int64_t count) {
        auto& own = work[size_t(k)];
        for (int64_t b = k; b < batch.pairs; b += count) {
            auto& sum = sums[size_t(b)].d_gaps;
            auto p = pair_of<R>(batch, b);
            if (!own.d_gap_open.empty()) p.open.gradient = (char*)own.d_gap_open.data();
            if (!own.d_gap_extend.empty()) p.extend.gradient = (char*)own.d_gap_extend.data();
            if (!start_backward<N>(batch, p, b, sum)) continue;
            with_exponents<N>(p, [&](auto exponents) {
                using P = decltype(exponents);
                start_below<P>(p, own.below);
                for (int64_t block = p.blocks() - 1; block >= 0; block--) {
                    Partial part;
                    backward_block<SlotOf<P, GAPS>, CELL>(p, block, own.top, own.slots, own.below, nullptr, part);
                    for (int gap : {OPEN, EXTEND}) sum[gap] += part.d_gaps[gap];
                }
            });
        }
    });
    for (const auto& own : work) {
        add_copy(own.d_gap_open, batch.d_gap_open);
        add_copy(own.d_gap_extend, batch.d_gap_extend);
    }
}

template <class N, bool GAPS, bool CELL, class R = typename N::Real>
void backward_within_a_pair(const Batch& batch, std::vector<Partial>& sums) {
    std::vector<Workspace<N>> work(size_t(batch.threads));
    for (auto& own : work) own.top.reserve(batch.m);
    auto& below = work[0].below;
    below.reserve(batch.m);
    for (int64_t b = 0; b < batch.pairs; b++) {
        auto& sum = sums[size_t(b)].d_gaps;
        auto p = pair_of<R>(batch, b);
        if (!start_backward<N>(batch, p, b, sum)) continue;
        std::vector<Partial> parts(size_t(p.blocks()));
        Progress progress(p.blocks());
        with_exponents<N>(p, [&](auto exponents) {
            using P = decltype(exponents);
            start_below<P>(p, below);
            parallel(batch.threads, [&](int64_t k, int64_t count) {
                auto& own = work[size_t(k)];
                for (int64_t block = p.blocks() - 1 - k; block >= 0; block -= count)
                    backward_block<SlotOf<P, GAPS>, CELL>(p, block, own.top, own.slots, below, &progress,
                                                          parts[size_t(block)]);
            });
        });
        for (size_t block = parts.size(); block-- > 0;)
            for (int gap : {OPEN, EXTEND}) sum[gap] += parts[block].d_gaps[gap];
    }
}

// The gradient of a gap that is one number for a pair, or for all.
template <class R>
void write_sums(const std::vector<Partial>& sums, int gap, const Tensor& gradient) {
    if (gradient.row || gradient.column) return;
    R* out = (R*)gradient.data;
    double all = 0;
    for (size_t b = 0; b < sums.size(); b++) {
        all += sums[b].d_gaps[gap];
        if (gradient.batch) out[int64_t(b) * gradient.batch] = R(sums[b].d_gaps[gap]);
    }
    if (!gradient.batch) out[0] = R(all);
}

template <class N, bool GAPS, bool CELL>
void backward_batch(const Batch& batch) {
    using R = typename N::Real;
    std::vector<Partial> sums(size_t(batch.pairs));
    pairs_are_few(batch) ? backward_within_a_pair<N, GAPS, CELL>(batch, sums)
                         : backward_between_pairs<N, GAPS, CELL>(batch, sums);
    if (!GAPS) return;
    write_sums<R>(sums, OPEN, batch.d_gap_open);
    write_sums<R>(sums, EXTEND, batch.d_gap_extend);
}

}  // namespace
