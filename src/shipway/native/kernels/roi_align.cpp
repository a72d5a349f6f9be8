// Regions of a feature map, upright or rotated, brought to one size.
//
// Source: He et al. 2017 (Mask R-CNN); boxes, sampling and alignment as in mmcv.ops.roi_align and
// mmcv.ops.roi_align_rotated. The sampling points of a region serve all its channels.

#include <algorithm>
#include <cmath>
#include <vector>

#include "shipway_kernel.hpp"

namespace shipway {
namespace {

constexpr std::int64_t kMostSamples = std::int64_t{1} << 22;  // of one region; more is no real box

template <class W>
struct Point {
  std::int64_t offset[4];
  W weight[4];
};

template <class W>
Point<W> make_point(W y, W x, std::int64_t height, std::int64_t width) {
  Point<W> point{};
  if (!(y >= W(-1) && y <= W(height) && x >= W(-1) && x <= W(width))) return point;  // NaN too
  y = std::max(y, W(0));
  x = std::max(x, W(0));
  const std::int64_t top = std::min(static_cast<std::int64_t>(y), height - 1);
  const std::int64_t left = std::min(static_cast<std::int64_t>(x), width - 1);
  const std::int64_t bottom = std::min(top + 1, height - 1), right = std::min(left + 1, width - 1);
  const W down = std::min(y, W(height - 1)) - W(top), across = std::min(x, W(width - 1)) - W(left);
  const std::int64_t rows[2] = {top, bottom}, columns[2] = {left, right};
  const W vertical[2] = {W(1) - down, down}, horizontal[2] = {W(1) - across, across};
  for (int k = 0; k < 4; ++k) {
    point.offset[k] = rows[k / 2] * width + columns[k % 2];
    point.weight[k] = vertical[k / 2] * horizontal[k % 2];
  }
  return point;
}

struct Settings {
  std::int64_t out_h, out_w, sampling;
  double scale;
  bool aligned, clockwise, maximum, rotated;
};

// A region in pixels of the map: its corner (upright) or centre (rotated), size and direction.
template <class W>
struct Region {
  std::int64_t plane, grid_h, grid_w;
  W y, x, bin_h, bin_w, sine, cosine;

  template <class T>
  Region(const T* roi, const Settings& settings) {
    const W scale = W(settings.scale), shift = settings.aligned ? W(0.5) : W(0);
    W height, width;
    plane = static_cast<std::int64_t>(std::nearbyint(W(roi[0])));
    if (settings.rotated) {
      const W theta = settings.clockwise ? -W(roi[5]) : W(roi[5]);
      x = W(roi[1]) * scale - shift, y = W(roi[2]) * scale - shift;
      width = W(roi[3]) * scale, height = W(roi[4]) * scale;
      sine = std::sin(theta), cosine = std::cos(theta);
    } else {
      x = W(roi[1]) * scale - shift, y = W(roi[2]) * scale - shift;
      width = W(roi[3]) * scale - shift - x, height = W(roi[4]) * scale - shift - y;
      sine = 0, cosine = 1;
    }
    if (!settings.aligned) width = std::max(width, W(1)), height = std::max(height, W(1));
    bin_h = height / W(settings.out_h), bin_w = width / W(settings.out_w);
    grid_h = settings.sampling > 0 ? settings.sampling : count(bin_h);
    grid_w = settings.sampling > 0 ? settings.sampling : count(bin_w);
    if (settings.rotated) origin_y = -height / 2, origin_x = -width / 2;
  }

  Point<W> point(std::int64_t bin_y, std::int64_t bin_x, std::int64_t at_y, std::int64_t at_x,
                 const Settings& settings, std::int64_t height, std::int64_t width) const {
    const W down = W(bin_y) * bin_h + (W(at_y) + W(0.5)) * bin_h / W(grid_h);
    const W across = W(bin_x) * bin_w + (W(at_x) + W(0.5)) * bin_w / W(grid_w);
    if (!settings.rotated) return make_point(y + down, x + across, height, width);
    const W from_y = origin_y + down, from_x = origin_x + across;
    return make_point(from_y * cosine - from_x * sine + y, from_y * sine + from_x * cosine + x, height,
                      width);
  }

 private:
  W origin_y = 0, origin_x = 0;

  static std::int64_t count(W bin) {
    return bin > 0 && bin < W(1e6) ? static_cast<std::int64_t>(std::ceil(bin)) : 0;
  }
};

template <class T>
struct Align {
  using W = wide_t<T>;
  const T *input, *rois;
  T* output;
  std::int64_t planes, channels, height, width;
  Settings settings;

  std::int64_t row() const { return settings.rotated ? 6 : 5; }

  void operator()(std::int64_t begin, std::int64_t end) const {
    std::vector<Point<W>> points;
    for (std::int64_t at = begin; at < end; ++at) align(at, points);
  }

  void align(std::int64_t at, std::vector<Point<W>>& points) const {
    const Region<W> region(rois + at * row(), settings);
    const std::int64_t bins = settings.out_h * settings.out_w, each = region.grid_h * region.grid_w;
    points.clear();
    for (std::int64_t bin = 0; bin < bins; ++bin) {
      for (std::int64_t k = 0; k < each; ++k) {
        points.push_back(region.point(bin / settings.out_w, bin % settings.out_w, k / region.grid_w,
                                      k % region.grid_w, settings, height, width));
      }
    }
    const T* plane = input + region.plane * channels * height * width;
    T* out = output + at * channels * bins;
    for (std::int64_t c = 0; c < channels; ++c, plane += height * width) {
      for (std::int64_t bin = 0; bin < bins; ++bin) {
        out[c * bins + bin] = T(pool(plane, points.data() + bin * each, each));
      }
    }
  }

  W pool(const T* plane, const Point<W>* points, std::int64_t count) const {
    if (count == 0 || height == 0 || width == 0) return 0;
    W sum = 0, most = 0;
    for (std::int64_t k = 0; k < count; ++k) {
      W value = 0;
      for (int corner = 0; corner < 4; ++corner) {
        value += W(plane[points[k].offset[corner]]) * points[k].weight[corner];
      }
      sum += value;
      most = k == 0 || value > most || std::isnan(value) ? value : most;
      if (settings.maximum && std::isnan(most)) return most;
    }
    return settings.maximum ? most : sum / W(count);
  }
};

int check(const shipway_tensor* in, const Settings& settings, shipway_host* host) {
  const std::int64_t wanted = settings.rotated ? 6 : 5;
  if (in[0].rank != 4) return fail(host, "input must have rank 4");
  if (in[1].rank != 2 || (in[1].shape[1] >= 0 && in[1].shape[1] != wanted)) {
    return fail(host, "rois must be [n, " + std::to_string(wanted) + "]");
  }
  if (settings.out_h < 1 || settings.out_w < 1) return fail(host, "the output size must be positive");
  return 0;
}

int infer_size(const shipway_tensor* in, const Settings& settings, shipway_shape* out,
               shipway_host* host) {
  if (check(in, settings, host)) return 1;
  set_shape(out[0], {in[1].shape[0], in[0].shape[1], settings.out_h, settings.out_w});
  return 0;
}

int run(const shipway_tensor* in, const Settings& settings, shipway_tensor* out, shipway_host* host) {
  if (check(in, settings, host)) return 1;
  return with_float(in[0].dtype, host, [&](auto tag) {
    using T = decltype(tag);
    using W = wide_t<T>;
    const Align<T> align{data<T>(in[0]),  data<T>(in[1]),  data<T>(out[0]), in[0].shape[0],
                         in[0].shape[1], in[0].shape[2], in[0].shape[3], settings};
    for (std::int64_t at = 0; at < in[1].shape[0]; ++at) {
      const W plane = std::nearbyint(W(align.rois[at * align.row()]));
      if (!(plane >= 0 && plane < W(align.planes))) {
        return fail(host, "region " + std::to_string(at) + " is of image " +
                              std::to_string(static_cast<double>(plane)) + ", but there are " +
                              std::to_string(align.planes));
      }
      const Region<W> region(align.rois + at * align.row(), settings);
      const std::int64_t bins = settings.out_h * settings.out_w;
      const std::int64_t most = kMostSamples / bins, rows = std::max<std::int64_t>(region.grid_h, 1);
      if (region.grid_h > most || region.grid_w > most / rows) {
        return fail(host, "region " + std::to_string(at) + " needs more than " +
                              std::to_string(kMostSamples) + " samples; set sampling_ratio");
      }
    }
    return parallel(host, in[1].shape[0], 1, align);
  });
}

Settings upright(const shipway_attribute* a) {
  return {a[0].i, a[1].i, a[3].i, a[2].f, a[5].i != 0, false, a[4].i != 0, false};
}
Settings turned(const shipway_attribute* a) {
  return {a[0].i, a[1].i, a[3].i, a[2].f, a[4].i != 0, a[5].i != 0, false, true};
}

constexpr shipway_attribute_spec kUpright[] = {
    {"output_height", SHIPWAY_ATTR_INT, 1, 0, 0, nullptr, nullptr, 0},
    {"output_width", SHIPWAY_ATTR_INT, 1, 0, 0, nullptr, nullptr, 0},
    {"spatial_scale", SHIPWAY_ATTR_FLOAT, 0, 0, 1.0, nullptr, nullptr, 0},
    {"sampling_ratio", SHIPWAY_ATTR_INT, 0, 0, 0, nullptr, nullptr, 0},
    {"max_pool", SHIPWAY_ATTR_INT, 0, 0, 0, nullptr, nullptr, 0},
    {"aligned", SHIPWAY_ATTR_INT, 0, 1, 0, nullptr, nullptr, 0},
};
constexpr shipway_attribute_spec kTurned[] = {
    {"output_height", SHIPWAY_ATTR_INT, 1, 0, 0, nullptr, nullptr, 0},
    {"output_width", SHIPWAY_ATTR_INT, 1, 0, 0, nullptr, nullptr, 0},
    {"spatial_scale", SHIPWAY_ATTR_FLOAT, 0, 0, 1.0, nullptr, nullptr, 0},
    {"sampling_ratio", SHIPWAY_ATTR_INT, 0, 0, 0, nullptr, nullptr, 0},
    {"aligned", SHIPWAY_ATTR_INT, 0, 1, 0, nullptr, nullptr, 0},
    {"clockwise", SHIPWAY_ATTR_INT, 0, 0, 0, nullptr, nullptr, 0},
};

int infer_upright(const shipway_tensor* in, const shipway_attribute* attributes, shipway_shape* out,
                  shipway_host* host) {
  return infer_size(in, upright(attributes), out, host);
}
int run_upright(const shipway_tensor* in, const shipway_attribute* attributes, shipway_tensor* out,
                shipway_host* host) {
  return run(in, upright(attributes), out, host);
}
int infer_turned(const shipway_tensor* in, const shipway_attribute* attributes, shipway_shape* out,
                 shipway_host* host) {
  return infer_size(in, turned(attributes), out, host);
}
int run_turned(const shipway_tensor* in, const shipway_attribute* attributes, shipway_tensor* out,
               shipway_host* host) {
  return run(in, turned(attributes), out, host);
}

}  // namespace

extern const shipway_op roi_align_op;
const shipway_op roi_align_op = {SHIPWAY_OP_ABI, 1, "shipway", "RoiAlign", "roi_align", "TT", "T",
                                 kFloats, 0, 6, kUpright, nullptr, infer_upright, run_upright};

extern const shipway_op roi_align_rotated_op;
const shipway_op roi_align_rotated_op = {
    SHIPWAY_OP_ABI, 1, "shipway", "RoiAlignRotated", "roi_align_rotated", "TT", "T",
    kFloats, 0, 6, kTurned, nullptr, infer_turned, run_turned};

}  // namespace shipway
