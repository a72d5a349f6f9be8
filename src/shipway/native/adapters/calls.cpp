#include "calls.hpp"

#include <atomic>
#include <chrono>
#include <cstdio>

namespace {

struct Slot {
  std::atomic<const shipway_op*> op{nullptr};
  std::atomic<std::int64_t> started_ms{0};
};

constexpr int kSlots = 64;  // calls at the same time; one more is counted, but not watched
Slot slots[kSlots];
std::atomic<std::int64_t> calls{0};

std::int64_t now_ms() {
  using namespace std::chrono;
  return duration_cast<milliseconds>(steady_clock::now().time_since_epoch()).count();
}

}  // namespace

namespace shipway {

CallGuard::CallGuard(const shipway_op* op) : slot_(-1) {
  calls.fetch_add(1, std::memory_order_relaxed);
  for (int at = 0; at < kSlots; ++at) {
    const shipway_op* nobody = nullptr;
    if (slots[at].op.load(std::memory_order_relaxed) == nullptr &&
        slots[at].op.compare_exchange_strong(nobody, op)) {
      slots[at].started_ms.store(now_ms());
      slot_ = at;
      return;
    }
  }
}

CallGuard::~CallGuard() {
  if (slot_ < 0) return;
  slots[slot_].started_ms.store(0);
  slots[slot_].op.store(nullptr);
}

}  // namespace shipway

extern "C" SHIPWAY_EXPORT int shipway_call(const shipway_op* op, const shipway_tensor* inputs,
                                           const shipway_attribute* attributes,
                                           shipway_tensor* outputs, shipway_host* host) {
  const shipway::CallGuard guard(op);
  return op->compute(inputs, attributes, outputs, host);
}

// How many kernel calls there have been in this process.
extern "C" SHIPWAY_EXPORT std::int64_t shipway_calls(void) { return calls.load(); }

// Milliseconds that the oldest call in flight has run, 0 when there is none; writes its operator.
extern "C" SHIPWAY_EXPORT std::int64_t shipway_longest_call(char* name, std::int32_t size) {
  std::int64_t longest = 0;
  for (const Slot& slot : slots) {
    const shipway_op* op = slot.op.load();
    const std::int64_t started = slot.started_ms.load();
    if (op == nullptr || started == 0) continue;
    const std::int64_t ran = now_ms() - started;
    if (ran <= longest) continue;
    longest = ran;
    if (name != nullptr && size > 0) {
      std::snprintf(name, static_cast<std::size_t>(size), "%s::%s", op->domain, op->torch_name);
    }
  }
  return longest;
}
