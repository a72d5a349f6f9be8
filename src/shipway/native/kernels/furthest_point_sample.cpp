// Points as far from each other as can be found step by step: each next one is furthest from those taken.
//
// Source: PointNet++ (Qi et al. 2017); as mmcv.ops.furthest_point_sample, which starts with point 0.

#include <algorithm>
#include <limits>
#include <vector>

#include "shipway_kernel.hpp"

namespace shipway {
namespace {

int infer(const shipway_tensor* in, const shipway_attribute* attributes, shipway_shape* out,
          shipway_host* host) {
  if (in[0].rank != 3) return fail(host, "points must have rank 3");
  if (in[0].shape[2] >= 0 && in[0].shape[2] != 3) return fail(host, "points need three coordinates");
  if (attributes[0].i < 1) return fail(host, "num_points must be at least 1");
  set_shape(out[0], {in[0].shape[0], attributes[0].i});
  return 0;
}

template <class T>
void sample(const T* points, std::int64_t count, std::int64_t wanted, std::int32_t* out) {
  using W = wide_t<T>;
  std::vector<W> nearest(static_cast<std::size_t>(count), std::numeric_limits<W>::infinity());
  std::int64_t last = 0;
  for (std::int64_t k = 0; k < wanted; ++k) {
    out[k] = static_cast<std::int32_t>(last);
    const W x = W(points[3 * last]), y = W(points[3 * last + 1]), z = W(points[3 * last + 2]);
    W most = -1;
    for (std::int64_t i = 0; i < count; ++i) {
      const W dx = W(points[3 * i]) - x, dy = W(points[3 * i + 1]) - y, dz = W(points[3 * i + 2]) - z;
      const W squared = dx * dx + dy * dy + dz * dz;
      W& known = nearest[static_cast<std::size_t>(i)];
      known = squared < known ? squared : known;  // a NaN is never nearer
      if (known > most) most = known, last = i;
    }
  }
}

int compute(const shipway_tensor* in, const shipway_attribute* attributes, shipway_tensor* out,
            shipway_host* host) {
  const std::int64_t count = in[0].shape[1], wanted = attributes[0].i;
  if (in[0].shape[0] > 0 && count == 0) return fail(host, "there are no points to sample from");
  return with_float(in[0].dtype, host, [&](auto tag) {
    using T = decltype(tag);
    const T* points = data<T>(in[0]);
    std::int32_t* to = data<std::int32_t>(out[0]);
    return parallel(host, in[0].shape[0], 1, [=](std::int64_t begin, std::int64_t end) {
      for (std::int64_t at = begin; at < end; ++at) sample(points + at * count * 3, count, wanted, to + at * wanted);
    });
  });
}

constexpr shipway_attribute_spec kAttributes[] = {
    {"num_points", SHIPWAY_ATTR_INT, 1, 0, 0, nullptr, nullptr, 0},
};

}  // namespace

extern const shipway_op furthest_point_sample_op;
const shipway_op furthest_point_sample_op = {
    SHIPWAY_OP_ABI, 1, "shipway", "FurthestPointSample", "furthest_point_sample", "T", "i", kFloats,
    0, 1, kAttributes, nullptr, infer, compute};

}  // namespace shipway
