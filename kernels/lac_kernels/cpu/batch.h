// A batch, its pairs or the blocks of each pair shared by threads.

#pragma once

#include <vector>

#include "block.h"
#include "problem.h"

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
void finish_forward(const Problem& q, const Pair<R>& p, int64_t b, const std::vector<Partial>& blocks) {
    Total z;
    bool sound = p.rate.whole >= 0;
    for (const auto& part : blocks) {
        z.add(part.z.m, part.z.t, part.z.e);
        sound = sound && part.sound;
    }
    if (!by_cell(q) && p.n > 0 && p.m > 0)
        for (const Gap* gap : {&p.open, &p.extend}) {
            const R x = *(const R*)gap->value.data;
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
        score = double(*(const R*)q.temperature) * (std::log(z.m) + double(z.e) * 0.693147180559945309417);
    }
    ((R*)q.score)[b] = R(score);
    if (p.save) *p.header() = {z, kind, p.shared};
}

// What one thread needs besides the tensors.
template <class N>
struct Workspace {
    Rows<N> top, below;
    Memory slots;
    std::vector<typename N::Real> d_open, d_extend;  // where the batch shares a gap's gradient
};

template <class N, bool CELL, class R = typename N::Real>
void forward_batch(const Problem& q) {
    const int64_t L = Lanes<R>::L;
    const int64_t most = (q.n + ROWS - 1) / ROWS;
    const bool inside = q.batch < q.threads && most > 1;
    if (!inside) {
        parallel(q.threads < q.batch ? q.threads : q.batch, [&](int64_t k, int64_t count) {
            Rows<N> top;
            top.reserve(q.m);
            for (int64_t b = k; b < q.batch; b += count) {
                auto p = pair_of<R>(q, b);
                if (!N::DUAL && fits_shared(p)) share_exponents(p);
                std::vector<Partial> parts(size_t(p.m > 0 ? p.blocks() : 0));
                start_rows(p, top, -L, p.m + 2 * L);
                for (size_t block = 0; block < parts.size(); block++)
                    forward_block<N, CELL>(p, int64_t(block), top, nullptr, parts[block]);
                finish_forward<N>(q, p, b, parts);
            }
        });
        return;
    }
    Rows<N> top;
    top.reserve(q.m);
    for (int64_t b = 0; b < q.batch; b++) {
        auto p = pair_of<R>(q, b);
        if (!N::DUAL && fits_shared(p)) share_exponents(p);
        std::vector<Partial> parts(size_t(p.m > 0 ? p.blocks() : 0));
        Progress progress(int64_t(parts.size()));
        start_rows(p, top, -L, p.m + 2 * L);
        parallel(q.threads, [&](int64_t k, int64_t count) {
            for (int64_t block = k; block < int64_t(parts.size()); block += count)
                forward_block<N, CELL>(p, block, top, &progress, parts[size_t(block)]);
        });
        finish_forward<N>(q, p, b, parts);
    }
}

// Zeros outside the valid cells, or a value everywhere inside them.
template <class R>
void fill_gradient(const Problem& q, const Pair<R>& p, bool inside, R value) {
    const int64_t size = size_of(q.d_type);
    for (int64_t i = 0; i < q.n; i++) {
        char* row = p.d_scores + i * q.m * size;
        const int64_t valid = i < p.n ? p.m : 0;
        std::memset(row + valid * size, 0, size_t((q.m - valid) * size));
        if (!inside) continue;
        for (int64_t j = 0; j < valid; j++) write<R>(row, int(q.d_type), j, 1, &value);
    }
}

// Fills what needs no sweep; true if the pair needs one.
template <class N, class R = typename N::Real>
bool start_backward(const Problem& q, Pair<R>& p, int64_t b, double* d_gaps) {
    const Header header = *p.header();
    const R g = ((const R*)q.grad)[b * q.grad_stride];
    const bool sweep = header.kind == SOUND && p.n > 0 && p.m > 0;
    const R nan = std::numeric_limits<R>::quiet_NaN();
    if (header.shared) share_exponents(p);
    if (sweep) {
        p.grad_over_z = R(double(g) / header.z.m);
        if (N::DUAL) {
            p.grad_over_z /= *(const R*)q.temperature;
            p.z_derivative = R(header.z.t / header.z.m);
        }
        p.z_low = typename Lanes<R>::I(header.z.e - Lanes<R>::BIAS);
        if (p.n < q.n || p.m < q.m) fill_gradient<R>(q, p, false, 0);
    } else {
        fill_gradient<R>(q, p, true, header.kind == NOT_FINITE ? nan : 0);
        if (q.gaps && header.kind == NOT_FINITE) {
            d_gaps[0] = d_gaps[1] = nan;
            for (const Gap* gap : {&p.open, &p.extend})
                if (!gap->one())
                    for (int64_t i = 0; i < (gap->row ? p.n : 1); i++)
                        for (int64_t j = 0; j < (gap->column ? p.m : 1); j++)
                            ((R*)gap->gradient)[i * gap->row + j * gap->column] = nan;
        }
    }
    return sweep;
}

template <class S, bool CELL, class N = typename S::Value, class R = typename N::Real>
void backward_batch(const Problem& q) {
    const int64_t L = Lanes<R>::L;
    const int64_t most = (q.n + ROWS - 1) / ROWS;
    const bool inside = q.batch < q.threads && most > 1;
    const bool many = q.gaps && q.batch > 1;
    const bool own_open = many && q.d_open_batch == 0 && q.d_open_size > 1;
    const bool own_extend = many && q.d_extend_batch == 0 && q.d_extend_size > 1;
    const int64_t count = inside ? q.threads : q.threads < q.batch ? q.threads : q.batch;
    std::vector<Workspace<N>> work(static_cast<size_t>(count));
    std::vector<double> d_gaps(size_t(2 * q.batch), 0.0);
    for (auto& a : work) {
        a.top.reserve(q.m);
        a.slots.reserve(1);
        if (!inside && own_open) a.d_open.assign(size_t(q.d_open_size), R(0));
        if (!inside && own_extend) a.d_extend.assign(size_t(q.d_extend_size), R(0));
        if (!inside || &a == &work[0]) a.below.reserve(q.m);
    }
    if (!inside) {
        parallel(count, [&](int64_t k, int64_t used) {
            auto& a = work[size_t(k)];
            for (int64_t b = k; b < q.batch; b += used) {
                auto p = pair_of<R>(q, b);
                if (own_open) p.open.gradient = (char*)a.d_open.data();
                if (own_extend) p.extend.gradient = (char*)a.d_extend.data();
                if (!start_backward<N>(q, p, b, &d_gaps[size_t(2 * b)])) continue;
                a.below.fill(-L, p.m + 3 * L, zero<N>(p), zero<N>(p), zero<N>(p));
                for (int64_t block = p.blocks() - 1; block >= 0; block--) {
                    Partial part;
                    backward_block<S, CELL>(p, block, a.top, a.slots, a.below, nullptr, part);
                    for (int g = 0; g < 2; g++) d_gaps[size_t(2 * b + g)] += part.d_gaps[g];
                }
            }
        });
        for (const auto& a : work) {
            for (size_t k = 0; k < a.d_open.size(); k++) ((R*)q.d_open)[k] += a.d_open[k];
            for (size_t k = 0; k < a.d_extend.size(); k++) ((R*)q.d_extend)[k] += a.d_extend[k];
        }
    } else {
        for (int64_t b = 0; b < q.batch; b++) {
            auto p = pair_of<R>(q, b);
            if (!start_backward<N>(q, p, b, &d_gaps[size_t(2 * b)])) continue;
            std::vector<Partial> parts(size_t(p.blocks()));
            Progress progress(p.blocks());
            auto& below = work[0].below;
            below.fill(-L, p.m + 3 * L, zero<N>(p), zero<N>(p), zero<N>(p));
            parallel(count, [&](int64_t k, int64_t used) {
                auto& a = work[size_t(k)];
                for (int64_t block = p.blocks() - 1 - k; block >= 0; block -= used)
                    backward_block<S, CELL>(p, block, a.top, a.slots, below, &progress, parts[size_t(block)]);
            });
            for (size_t block = parts.size(); block-- > 0;)
                for (int g = 0; g < 2; g++) d_gaps[size_t(2 * b + g)] += parts[block].d_gaps[g];
        }
    }
    if (!q.gaps) return;
    for (int g = 0; g < 2; g++) {
        R* out = (R*)(g == 0 ? q.d_open : q.d_extend);
        const int64_t batch = g == 0 ? q.d_open_batch : q.d_extend_batch;
        const bool one = g == 0 ? !q.d_open_row && !q.d_open_column : !q.d_extend_row && !q.d_extend_column;
        if (!one) continue;
        double all = 0;
        for (int64_t b = 0; b < q.batch; b++) {
            all += d_gaps[size_t(2 * b + g)];
            if (batch) out[b] = R(d_gaps[size_t(2 * b + g)]);
        }
        if (!batch) out[0] = R(all);
    }
}

}  // namespace
