// What native.cpp and norm.cpp share. Every function that can fail returns null or 0 and leaves libtorch's words for the
// caller in salad_last_error().
#pragma once
#include <ATen/ATen.h>
#include <string>

namespace salad {
// The last error of this thread.
std::string &last_error();

// Runs f; where it throws, keeps the words and gives `failed`.
template <class F, class T> T guarded(T failed, F f) {
  try {
    return f();
  } catch (const c10::Error &e) {
    last_error() = e.what_without_backtrace();
  } catch (const std::exception &e) {
    last_error() = e.what();
  }
  return failed;
}
} // namespace salad
