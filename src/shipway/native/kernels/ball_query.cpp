// Points between two radii of each centre, in the order of the points.
//
// Source: PointNet++ (Qi et al. 2017); names and padding rule as in mmcv.ops.ball_query.

#include "shipway_kernel.hpp"

namespace shipway {
namespace {

int infer(const shipway_tensor* in, const shipway_attribute* attributes, shipway_shape* out,
          shipway_host* host) {
  if (in[0].rank != 3 || in[1].rank != 3) return fail(host, "xyz and center_xyz must have rank 3");
  if (attributes[2].i < 0) return fail(host, "sample_num must not be negative");
  set_shape(out[0], {in[1].shape[0], in[1].shape[1], attributes[2].i});
  return 0;
}

template <class T>
struct Query {
  using W = wide_t<T>;
  const T* xyz;
  const T* centers;
  std::int32_t* found;
  std::int64_t points, centers_each, wanted;
  W nearest, farthest;  // squared

  void operator()(std::int64_t begin, std::int64_t end) const {
    for (std::int64_t at = begin; at < end; ++at) search(at);
  }

  void search(std::int64_t at) const {
    const T* batch = xyz + at / centers_each * points * 3;
    const W x = W(centers[3 * at]), y = W(centers[3 * at + 1]), z = W(centers[3 * at + 2]);
    std::int32_t* out = found + at * wanted;
    std::int64_t count = 0;
    for (std::int64_t k = 0; k < points && count < wanted; ++k) {
      const W dx = x - W(batch[3 * k]), dy = y - W(batch[3 * k + 1]), dz = z - W(batch[3 * k + 2]);
      const W squared = dx * dx + dy * dy + dz * dz;
      if (squared == 0 || (squared >= nearest && squared < farthest)) {
        out[count++] = static_cast<std::int32_t>(k);
      }
    }
    const std::int32_t filler = count > 0 ? out[0] : 0;
    while (count < wanted) out[count++] = filler;
  }
};

int compute(const shipway_tensor* in, const shipway_attribute* attributes, shipway_tensor* out,
            shipway_host* host) {
  if (in[0].shape[2] != 3 || in[1].shape[2] != 3) return fail(host, "points need three coordinates");
  if (in[0].shape[0] != in[1].shape[0]) return fail(host, "xyz and center_xyz differ in their batch");
  return with_float(in[0].dtype, host, [&](auto tag) {
    using T = decltype(tag);
    using W = wide_t<T>;
    const W nearest = W(attributes[0].f), farthest = W(attributes[1].f);
    const Query<T> query{data<T>(in[0]),  data<T>(in[1]),       data<std::int32_t>(out[0]),
                         in[0].shape[1],  in[1].shape[1],       attributes[2].i,
                         nearest * nearest, farthest * farthest};
    return parallel(host, in[1].shape[0] * in[1].shape[1], 8, query);
  });
}

constexpr shipway_attribute_spec kAttributes[] = {
    {"min_radius", SHIPWAY_ATTR_FLOAT, 1, 0, 0, nullptr, nullptr, 0},
    {"max_radius", SHIPWAY_ATTR_FLOAT, 1, 0, 0, nullptr, nullptr, 0},
    {"sample_num", SHIPWAY_ATTR_INT, 1, 0, 0, nullptr, nullptr, 0},
};

}  // namespace

extern const shipway_op ball_query_op;
const shipway_op ball_query_op = {SHIPWAY_OP_ABI, 1, "shipway", "BallQuery", "ball_query", "TT", "i",
                                  kFloats, 0, 3, kAttributes, nullptr, infer, compute};

}  // namespace shipway
