// Runs a loop with the widest vectors the processor has: write the loop as an always-inlined function
// object and call it with `with_vectors`. The arithmetic stays the same, operation by operation.
#pragma once

#if defined(__x86_64__)
#define SHIPWAY_WIDE __attribute__((target("avx2")))
#else
#define SHIPWAY_WIDE
#endif
#define SHIPWAY_INLINED inline __attribute__((always_inline))

extern "C" int shipway_isa_level();

namespace shipway {

template <class Loop>
SHIPWAY_WIDE void run_wide(const Loop& loop) {
  loop();
}

template <class Loop>
void with_vectors(const Loop& loop) {
  if (shipway_isa_level() >= 1) {
    run_wide(loop);
  } else {
    loop();
  }
}

}  // namespace shipway
