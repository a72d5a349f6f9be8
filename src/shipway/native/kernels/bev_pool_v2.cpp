// Features of camera pixels, weighted by their depths, summed into the cells of a bird's-eye view.
//
// Source: BEVPoolv2 (Huang and Huang 2022); arguments as in BEVDet and DrivingSDK.

#include <algorithm>
#include <vector>

#include "shipway_kernel.hpp"

namespace shipway {
namespace {

enum Input { kDepth, kFeat, kRanksDepth, kRanksFeat, kRanksBev, kStarts, kLengths };

int infer(const shipway_tensor* in, const shipway_attribute* attributes, shipway_shape* out,
          shipway_host* host) {
  const shipway_attribute& shape = attributes[0];
  if (in[kDepth].rank != 5 || in[kFeat].rank != 5) return fail(host, "depth and feat must have rank 5");
  for (int at = kRanksDepth; at <= kLengths; ++at) {
    if (in[at].rank != 1) return fail(host, "ranks and intervals must have rank 1");
  }
  if (shape.count != 5 || *std::min_element(shape.ints, shape.ints + 5) < 0) {
    return fail(host, "bev_feat_shape must be batch, z, y, x, channels");
  }
  const std::int64_t channels = in[kFeat].shape[4];
  if (channels >= 0 && channels != shape.ints[4]) {
    return fail(host, "feat has " + std::to_string(channels) + " channels, bev_feat_shape says " +
                          std::to_string(shape.ints[4]));
  }
  set_shape(out[0], {shape.ints[0], shape.ints[4], shape.ints[1], shape.ints[2], shape.ints[3]});
  return 0;
}

int check_range(const shipway_tensor& ranks, std::int64_t limit, const char* name, shipway_host* host) {
  const std::int64_t* at = data<std::int64_t>(ranks);
  for (std::int64_t i = 0; i < ranks.shape[0]; ++i) {
    if (at[i] < 0 || at[i] >= limit) {
      return fail(host, std::string(name) + "[" + std::to_string(i) + "] is " + std::to_string(at[i]) +
                            ", outside the " + std::to_string(limit) + " there are");
    }
  }
  return 0;
}

// Intervals must be runs of one cell, in order, and cover all points: each cell is then one thread's.
int check_intervals(const shipway_tensor* in, shipway_host* host) {
  const std::int64_t *starts = data<std::int64_t>(in[kStarts]), *lengths = data<std::int64_t>(in[kLengths]);
  const std::int64_t* cells = data<std::int64_t>(in[kRanksBev]);
  const std::int64_t points = in[kRanksBev].shape[0];
  std::int64_t next = 0, before = -1;
  for (std::int64_t i = 0; i < in[kStarts].shape[0]; ++i) {
    const bool fits = starts[i] == next && lengths[i] > 0 && lengths[i] <= points - next;
    if (!fits || cells[next] <= before ||
        !std::all_of(cells + next, cells + next + lengths[i], [&](auto cell) { return cell == cells[next]; })) {
      return fail(host, "interval " + std::to_string(i) +
                            " is no run of one cell; sort the points by ranks_bev before");
    }
    before = cells[next];
    next += lengths[i];
  }
  return next == points ? 0 : fail(host, "the intervals leave out points");
}

int check(const shipway_tensor* in, const shipway_attribute* attributes, shipway_host* host) {
  const std::int64_t points = in[kRanksBev].shape[0];
  if (in[kRanksDepth].shape[0] != points || in[kRanksFeat].shape[0] != points) {
    return fail(host, "ranks_depth, ranks_feat and ranks_bev must have one entry a point");
  }
  if (in[kStarts].shape[0] != in[kLengths].shape[0]) {
    return fail(host, "interval_starts and interval_lengths must have one entry an interval");
  }
  const std::int64_t* shape = attributes[0].ints;
  const std::int64_t* feat = in[kFeat].shape;
  const std::int64_t pixels = feat[0] * feat[1] * feat[2] * feat[3];
  return check_range(in[kRanksDepth], elements(in[kDepth]), "ranks_depth", host) ||
         check_range(in[kRanksFeat], pixels, "ranks_feat", host) ||
         check_range(in[kRanksBev], shape[0] * shape[1] * shape[2] * shape[3], "ranks_bev", host) ||
         check_intervals(in, host);
}

int compute(const shipway_tensor* in, const shipway_attribute* attributes, shipway_tensor* out,
            shipway_host* host) {
  if (check(in, attributes, host)) return 1;
  return with_float(in[kDepth].dtype, host, [&](auto tag) {
    using T = decltype(tag);
    using W = wide_t<T>;
    const T *depth = data<T>(in[kDepth]), *feat = data<T>(in[kFeat]);
    const std::int64_t *from = data<std::int64_t>(in[kRanksDepth]), *pixels = data<std::int64_t>(in[kRanksFeat]);
    const std::int64_t *cells = data<std::int64_t>(in[kRanksBev]), *starts = data<std::int64_t>(in[kStarts]);
    const std::int64_t* lengths = data<std::int64_t>(in[kLengths]);
    const std::int64_t channels = attributes[0].ints[4];
    const std::int64_t plane = attributes[0].ints[1] * attributes[0].ints[2] * attributes[0].ints[3];
    T* to = data<T>(out[0]);
    std::fill(to, to + elements(out[0]), T(W(0)));
    return parallel(host, in[kStarts].shape[0], 16, [=](std::int64_t begin, std::int64_t end) {
      std::vector<W> sums(static_cast<std::size_t>(channels));
      for (std::int64_t i = begin; i < end; ++i) {
        std::fill(sums.begin(), sums.end(), W(0));
        for (std::int64_t k = starts[i]; k < starts[i] + lengths[i]; ++k) {
          const W share = W(depth[from[k]]);
          const T* pixel = feat + pixels[k] * channels;
          W* sum = sums.data();
          for (std::int64_t c = 0; c < channels; ++c) sum[c] += share * W(pixel[c]);
        }
        const std::int64_t cell = cells[starts[i]];
        T* column = to + cell / plane * channels * plane + cell % plane;
        for (std::int64_t c = 0; c < channels; ++c) column[c * plane] = T(sums[static_cast<std::size_t>(c)]);
      }
    });
  });
}

constexpr shipway_attribute_spec kAttributes[] = {
    {"bev_feat_shape", SHIPWAY_ATTR_INTS, 1, 0, 0, nullptr, nullptr, 0},
};

}  // namespace

extern const shipway_op bev_pool_v2_op;
const shipway_op bev_pool_v2_op = {SHIPWAY_OP_ABI, 1, "shipway", "BevPoolV2", "bev_pool_v2", "TTIIIII",
                                   "T", kFloats, 0, 1, kAttributes, nullptr, infer, compute};

}  // namespace shipway
