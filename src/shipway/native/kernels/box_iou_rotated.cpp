// Intersection over union of rotated boxes; names and angles as in mmcv.ops.box_iou_rotated.

#include "rotated_boxes.hpp"
#include "shipway_kernel.hpp"

namespace shipway {
namespace {

int check(const shipway_tensor* in, const shipway_attribute* attributes, shipway_host* host) {
  for (int k = 0; k < 2; ++k) {
    if (in[k].rank != 2 || (in[k].shape[1] >= 0 && in[k].shape[1] != 5)) {
      return fail(host, "boxes must be [n, 5]: centre x, centre y, width, height, angle");
    }
  }
  const std::int64_t first = in[0].shape[0], second = in[1].shape[0];
  if (attributes[1].i != 0 && first >= 0 && second >= 0 && first != second) {
    return fail(host, "aligned boxes must be as many on both sides, not " + std::to_string(first) +
                          " and " + std::to_string(second));
  }
  return 0;
}

int infer(const shipway_tensor* in, const shipway_attribute* attributes, shipway_shape* out,
          shipway_host* host) {
  if (check(in, attributes, host)) return 1;
  if (attributes[1].i != 0) {
    set_shape(out[0], {in[0].shape[0]});
  } else {
    set_shape(out[0], {in[0].shape[0], in[1].shape[0]});
  }
  return 0;
}

int compute(const shipway_tensor* in, const shipway_attribute* attributes, shipway_tensor* out,
            shipway_host* host) {
  if (check(in, attributes, host)) return 1;
  const bool of_first = attributes[0].i != 0, aligned = attributes[1].i != 0;
  const std::int64_t columns = aligned ? 1 : in[1].shape[0];
  return with_float(in[0].dtype, host, [&](auto tag) {
    using T = decltype(tag);
    using W = wide_t<T>;
    const T *first = data<T>(in[0]), *second = data<T>(in[1]);
    T* to = data<T>(out[0]);
    return parallel(host, in[0].shape[0], 8, [=](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const RotatedBox<W> one(first + 5 * i);
        for (std::int64_t j = 0; j < columns; ++j) {
          const RotatedBox<W> other(second + 5 * (aligned ? i : j));
          to[i * columns + j] = T(overlap(one, other, of_first));
        }
      }
    });
  });
}

constexpr shipway_attribute_spec kAttributes[] = {
    {"of_first", SHIPWAY_ATTR_INT, 0, 0, 0, nullptr, nullptr, 0},
    {"aligned", SHIPWAY_ATTR_INT, 0, 0, 0, nullptr, nullptr, 0},
};

}  // namespace

extern const shipway_op box_iou_rotated_op;
const shipway_op box_iou_rotated_op = {SHIPWAY_OP_ABI, 1, "shipway", "BoxIouRotated",
                                       "box_iou_rotated", "TT", "T", kFloats, 0, 2, kAttributes,
                                       nullptr, infer, compute};

}  // namespace shipway
