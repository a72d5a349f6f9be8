// Multi-scale deformable attention: for each query and head, the weighted sum of points sampled
// bilinearly from feature maps of several sizes (align_corners=False, zero outside).
//
// Source: Zhu et al., Deformable DETR (arXiv 2010.04159); argument order and layouts of mmcv's
// multi_scale_deformable_attn. This file checks, plans and hands out the work.

#include "multi_scale_deformable_attn.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>

extern "C" int shipway_isa_level();

namespace shipway {
extern const shipway_op multi_scale_deformable_attn_op;

namespace msda {
namespace {

constexpr std::int64_t kPiece = 512;    // pixels copied in one piece of work
constexpr std::int64_t kPackAhead = 8;  // pixels between a prefetch and its copy

SampleTable make_table(const Problem& problem, const Layout& layout) {
  const std::int64_t each = problem.samples(), length = table_length(problem, layout);
  SampleTable table;
  for (std::int64_t i = 0; i < length; ++i) {
    const std::int64_t level = i % each / problem.points, head = i / each % layout.head_count;
    const std::int64_t height = problem.sizes[2 * level], width = problem.sizes[2 * level + 1];
    const bool empty = height == 0 || width == 0;
    const float nothing = std::numeric_limits<float>::quiet_NaN();
    table.width.push_back(empty ? nothing : static_cast<float>(width));
    table.height.push_back(empty ? nothing : static_cast<float>(height));
    table.right.push_back(empty ? 0 : static_cast<std::int32_t>(width - 1));
    table.bottom.push_back(empty ? 0 : static_cast<std::int32_t>(height - 1));
    table.row_stride.push_back(static_cast<std::int32_t>(width * layout.pixel_stride));
    table.origin.push_back(static_cast<std::int32_t>(
        problem.starts[level] * layout.pixel_stride + head * layout.head_stride));
  }
  return table;
}

std::int64_t element_bytes(const Problem& problem) {
  return problem.dtype == SHIPWAY_FLOAT32 ? 4 : problem.dtype == SHIPWAY_FLOAT64 ? 8 : 2;
}

// Pages that go back when the call ends, large ones where the system gives them.
class Plane {
 public:
  explicit Plane(std::int64_t size_bytes) : size_(static_cast<std::size_t>(size_bytes) + kHuge) {
    pages_ = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages_ == MAP_FAILED) return;
    const auto address = reinterpret_cast<std::uintptr_t>(pages_);
    data_ = reinterpret_cast<char*>((address + kHuge - 1) / kHuge * kHuge);
    madvise(data_, size_ - static_cast<std::size_t>(data_ - static_cast<char*>(pages_)),
            MADV_HUGEPAGE);
  }
  ~Plane() {
    if (pages_ != MAP_FAILED) munmap(pages_, size_);
  }
  Plane(const Plane&) = delete;
  Plane& operator=(const Plane&) = delete;

  char* data() const { return data_; }

 private:
  static constexpr std::size_t kHuge = std::size_t{2} << 20;
  std::size_t size_;
  void* pages_;
  char* data_ = nullptr;
};

void run_vector(const Problem& problem, const Layout& layout, const SampleTable& table,
                const Plan& plan, const Range& range) {
#if defined(__x86_64__)
  if (plan.isa >= 2) return run_avx512(problem, layout, table, plan, range);
  run_avx2(problem, layout, table, plan, range);
#endif
}

// Copies pixels [begin, end) of the packed heads. Known sizes spare a call for every pixel.
template <std::int64_t kBytes>
void pack_rows(const char* from, std::int64_t step_bytes, char* to, std::int64_t begin,
               std::int64_t end) {
  for (std::int64_t pixel = begin; pixel < end; ++pixel) {
    __builtin_prefetch(from + (pixel + kPackAhead) * step_bytes);
    if (kBytes > 64) __builtin_prefetch(from + (pixel + kPackAhead) * step_bytes + 64);
    std::memcpy(to + pixel * kBytes, from + pixel * step_bytes, kBytes);
  }
}

void pack(const char* from, std::int64_t step_bytes, char* to, std::int64_t row_bytes,
          std::int64_t begin, std::int64_t end) {
  switch (row_bytes) {
    case 32: return pack_rows<32>(from, step_bytes, to, begin, end);
    case 64: return pack_rows<64>(from, step_bytes, to, begin, end);
    case 128: return pack_rows<128>(from, step_bytes, to, begin, end);
    case 256: return pack_rows<256>(from, step_bytes, to, begin, end);
    default:
      for (std::int64_t pixel = begin; pixel < end; ++pixel) {
        std::memcpy(to + pixel * row_bytes, from + pixel * step_bytes,
                    static_cast<std::size_t>(row_bytes));
      }
  }
}

// Splits the queries of one batch entry so that no thread waits long for the last piece.
std::int64_t queries_per_piece(std::int64_t queries, std::int64_t pieces) {
  return std::clamp<std::int64_t>(queries / std::max<std::int64_t>(pieces, 1), 8, 256);
}

int run_in_place(const Problem& problem, const Plan& plan, shipway_host* host) {
  const std::int64_t batch_elements = problem.pixels * problem.heads * problem.channels;
  const std::int64_t piece = queries_per_piece(
      problem.queries, host == nullptr ? 1 : 8 * host->threads / std::max<std::int64_t>(problem.batch, 1) + 1);
  const std::int64_t pieces = (problem.queries + piece - 1) / piece;
  Layout first{problem.value, problem.heads * problem.channels, problem.channels, 0, problem.heads};
  const SampleTable table = plan.isa > 0 ? make_table(problem, first) : SampleTable{};
  return parallel(host, problem.batch * pieces, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t query = i % pieces * piece;
      const Range range{i / pieces, query, std::min(query + piece, problem.queries)};
      if (plan.isa == 0) {
        run_portable(problem, range);
        continue;
      }
      Layout layout = first;
      layout.value = static_cast<const char*>(problem.value) +
                     range.batch * batch_elements * element_bytes(problem);
      run_vector(problem, layout, table, plan, range);
    }
  });
}

// A few heads at a time: the gather of one group and the copy of the next share the threads, so the
// copy's memory traffic runs beside the gather's arithmetic.
class Packing {
 public:
  Packing(const Problem& problem, const Plan& plan, std::int64_t piece)
      : problem_(problem), plan_(plan), piece_(piece), group_(plan.packed_heads),
        row_bytes_(group_ * problem.channels * element_bytes(problem)),
        plane_bytes_((problem.pixels * row_bytes_ + 63) / 64 * 64), planes_(2 * plane_bytes_),
        table_(make_table(problem, layout(0))) {}

  bool ready() const { return planes_.data() != nullptr; }
  std::int64_t turns() const { return problem_.batch * groups(); }
  std::int64_t copies() const { return (problem_.pixels + kPiece - 1) / kPiece; }
  std::int64_t gathers() const { return (problem_.queries + piece_ - 1) / piece_; }

  void copy(std::int64_t turn, std::int64_t i) const {
    const std::int64_t pixel = turn / groups() * problem_.pixels;
    const char* from = static_cast<const char*>(problem_.value) +
                       (pixel * groups() + turn % groups()) * row_bytes_;
    pack(from, groups() * row_bytes_, planes_.data() + turn % 2 * plane_bytes_, row_bytes_,
         i * kPiece, std::min((i + 1) * kPiece, problem_.pixels));
  }

  void gather(std::int64_t turn, std::int64_t i) const {
    run_vector(problem_, layout(turn), table_, plan_,
               {turn / groups(), i * piece_, std::min((i + 1) * piece_, problem_.queries)});
  }

  // Piece i of gathers() and copies() together, the copies spread evenly among the gathers.
  void work(std::int64_t turn, std::int64_t i, std::int64_t copy_count, std::int64_t all) const {
    const std::int64_t copied = i * copy_count / all;
    if ((i + 1) * copy_count / all > copied) return copy(turn, copied);
    gather(turn - 1, i - copied);
  }

 private:
  std::int64_t groups() const { return problem_.heads / group_; }
  Layout layout(std::int64_t turn) const {
    return {planes_.data() + turn % 2 * plane_bytes_, group_ * problem_.channels, problem_.channels,
            turn % groups() * group_, group_};
  }

  const Problem& problem_;
  const Plan& plan_;
  std::int64_t piece_, group_, row_bytes_, plane_bytes_;
  Plane planes_;
  SampleTable table_;
};

int run_packed(const Problem& problem, const Plan& plan, shipway_host* host) {
  const int threads = host == nullptr ? 1 : host->threads;
  const Packing packing(problem, plan, queries_per_piece(problem.queries, 8 * threads));
  if (!packing.ready()) return fail(host, "MultiScaleDeformableAttn ran out of memory");
  int failed = 0;
  for (std::int64_t turn = 0; turn <= packing.turns() && !failed; ++turn) {
    const std::int64_t copies = turn < packing.turns() ? packing.copies() : 0;
    const std::int64_t all = copies + (turn > 0 ? packing.gathers() : 0);
    failed = parallel(host, all, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) packing.work(turn, i, copies, all);
    });
  }
  return failed;
}

}  // namespace

Plan choose_plan(const Problem& problem, shipway_host*) {
  Plan plan{shipway_isa_level(), 0, true};
  const std::int64_t limit = std::numeric_limits<std::int32_t>::max();
  const bool small = problem.pixels * problem.heads * problem.channels <= limit;
  if (problem.dtype == SHIPWAY_FLOAT64 || !small) plan.isa = 0;
  return plan;
}

int run(const Problem& problem, const Plan& plan, shipway_host* host) {
  if (plan.packed_heads > 0 && plan.isa > 0) return run_packed(problem, plan, host);
  return run_in_place(problem, plan, host);
}

}  // namespace msda
}  // namespace shipway
