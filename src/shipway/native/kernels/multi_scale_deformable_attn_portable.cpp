// Multi-scale deformable attention in plain C++: every dtype, every processor, sizes of any range.

#include <cmath>

#include "multi_scale_deformable_attn.hpp"

namespace shipway::msda {
namespace {

template <class T>
struct Sample {
  wide_t<T> x, y, weight;  // in pixels of the level, 0 at the centre of pixel 0
};

// Adds weight * pixel to the sums. Never for a pixel outside its level: 0 * NaN is NaN.
template <class T>
void add_pixel(const T* pixel, wide_t<T> weight, std::int64_t channels, wide_t<T>* sums) {
  for (std::int64_t c = 0; c < channels; ++c) sums[c] += weight * static_cast<wide_t<T>>(pixel[c]);
}

template <class T>
void add_sample(const Problem& problem, const T* plane, std::int64_t height, std::int64_t width,
                const Sample<T>& sample, wide_t<T>* sums) {
  using W = wide_t<T>;
  const W left = std::floor(sample.x), top = std::floor(sample.y);
  const W x_part[2] = {1 - (sample.x - left), sample.x - left};
  const W y_part[2] = {1 - (sample.y - top), sample.y - top};
  for (int corner = 0; corner < 4; ++corner) {
    const std::int64_t x = static_cast<std::int64_t>(left) + (corner & 1);
    const std::int64_t y = static_cast<std::int64_t>(top) + (corner >> 1);
    if (x < 0 || y < 0 || x >= width || y >= height) continue;
    const W weight = sample.weight * y_part[corner >> 1] * x_part[corner & 1];
    add_pixel(plane + (y * width + x) * problem.heads * problem.channels, weight,
              problem.channels, sums);
  }
}

// One head of one query: `index` counts [batch, queries, heads].
template <class T>
void run_head(const Problem& problem, std::int64_t batch, std::int64_t index, wide_t<T>* sums) {
  using W = wide_t<T>;
  const T* weights = static_cast<const T*>(problem.weights) + index * problem.samples();
  const T* locations = static_cast<const T*>(problem.locations) + index * problem.samples() * 2;
  const std::int64_t first = batch * problem.pixels * problem.heads + index % problem.heads;
  const T* head = static_cast<const T*>(problem.value) + first * problem.channels;
  for (std::int64_t c = 0; c < problem.channels; ++c) sums[c] = 0;
  for (std::int64_t i = 0; i < problem.samples(); ++i) {
    const std::int64_t level = i / problem.points;
    const std::int64_t height = problem.sizes[2 * level], width = problem.sizes[2 * level + 1];
    const Sample<T> sample{static_cast<W>(locations[2 * i]) * static_cast<W>(width) - W(0.5),
                           static_cast<W>(locations[2 * i + 1]) * static_cast<W>(height) - W(0.5),
                           static_cast<W>(weights[i])};
    const bool inside = sample.x > -1 && sample.y > -1 && sample.x < static_cast<W>(width) &&
                        sample.y < static_cast<W>(height);
    const T* plane = head + problem.starts[level] * problem.heads * problem.channels;
    if (inside) add_sample(problem, plane, height, width, sample, sums);
  }
  T* output = static_cast<T*>(problem.output) + index * problem.channels;
  for (std::int64_t c = 0; c < problem.channels; ++c) output[c] = static_cast<T>(sums[c]);
}

template <class T>
int run_range(const Problem& problem, const Range& range) {
  std::vector<wide_t<T>> sums(static_cast<std::size_t>(problem.channels));
  const std::int64_t first = (range.batch * problem.queries + range.begin) * problem.heads;
  const std::int64_t last = (range.batch * problem.queries + range.end) * problem.heads;
  for (std::int64_t i = first; i < last; ++i) run_head<T>(problem, range.batch, i, sums.data());
  return 0;
}

}  // namespace

void run_portable(const Problem& problem, const Range& range) {
  with_float(problem.dtype, nullptr,
             [&](auto tag) { return run_range<decltype(tag)>(problem, range); });
}

}  // namespace shipway::msda
