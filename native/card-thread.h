// What both directions have in common: one thread that owns a device, a bounded ring of 10 ms frames beside it, and what
// JavaScript and that thread tell each other.
#pragma once
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "alsa-device.h"

constexpr int64_t kMsNs = 1'000'000;
constexpr int64_t kFrameNs = 10 * kMsNs;
constexpr int64_t kHungNs = 1000 * kMsNs;
constexpr int kMostRepairs = 20;  // a second

inline int64_t nowNs() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Bounded, lock-free, for one producer and one consumer. Positions only grow. Each frame has a time, whatever it means.
class FrameRing {
 public:
  FrameRing(size_t frames, size_t frameSamples)
      : frames_(frames), frameSamples_(frameSamples), samples_(frames * frameSamples), times_(frames) {}
  size_t frames() const { return frames_; }
  uint64_t pushed() const { return pushed_.load(std::memory_order_acquire); }
  uint64_t popped() const { return popped_.load(std::memory_order_acquire); }
  bool push(const int16_t* frame, int64_t timeNs = 0) {
    const uint64_t at = pushed_.load(std::memory_order_relaxed);
    if (at - popped() == frames_) return false;
    std::memcpy(slot(at), frame, frameSamples_ * sizeof(int16_t));
    times_[at % frames_] = timeNs;
    pushed_.store(at + 1, std::memory_order_release);
    return true;
  }
  bool pop(int16_t* frame, int64_t* timeNs = nullptr) {
    const uint64_t at = popped_.load(std::memory_order_relaxed);
    if (at == pushed()) return false;
    std::memcpy(frame, slot(at), frameSamples_ * sizeof(int16_t));
    if (timeNs != nullptr) *timeNs = times_[at % frames_];
    popped_.store(at + 1, std::memory_order_release);
    return true;
  }
  // Drops the oldest, as its consumer. No more than there are.
  void skip(uint64_t frames) { popped_.store(popped() + std::min(frames, pushed() - popped()), std::memory_order_release); }

 private:
  int16_t* slot(uint64_t at) { return samples_.data() + (at % frames_) * frameSamples_; }
  const size_t frames_;
  const size_t frameSamples_;
  std::vector<int16_t> samples_;
  std::vector<int64_t> times_;
  std::atomic<uint64_t> pushed_{0};
  std::atomic<uint64_t> popped_{0};
};

// Shared by JavaScript and the thread; both hold it, so a thread that a hung card keeps may be left behind.
struct CardThread {
  CardThread(std::string deviceName, unsigned rate, size_t ringFrames)
      : device(std::move(deviceName)), rateHz(rate), frameSamples(rate / 100), ring(ringFrames, frameSamples) {}

  const std::string device;
  const unsigned rateHz;
  const size_t frameSamples;
  FrameRing ring;
  std::atomic<uint32_t> xruns{0};
  // When the thread last came round; it is stuck in a call to ALSA when this gets old.
  std::atomic<int64_t> aliveAtNs{nowNs()};
  // JavaScript has been asked to look and has not begun to: it need not be asked again.
  std::atomic<bool> isAsked{false};

  std::mutex mutex;
  std::condition_variable changed;
  // Guarded by `mutex`:
  bool stopped = false;
  bool ended = false;
  bool isUp = false;
  bool hasFailed = false;
  Fault fault;
  std::function<void()> wake;  // empty once the JavaScript side is closed

  int64_t toNs(size_t samples) const { return static_cast<int64_t>(samples) * 1'000'000'000 / rateHz; }

  bool isStopped() {
    std::lock_guard lock(mutex);
    return stopped;
  }

  void look() {
    if (isAsked.exchange(true)) return;
    std::lock_guard lock(mutex);
    if (wake) wake();
  }

  void sayUp() {
    {
      std::lock_guard lock(mutex);
      isUp = true;
    }
    look();
  }

  void pause(int64_t ns) {
    std::unique_lock lock(mutex);
    changed.wait_for(lock, std::chrono::nanoseconds(ns), [&] { return stopped; });
  }
};

// Repairs an underrun, an overrun or a suspension, each of which is counted; anything else is the loss of the card.
class Repairs {
 public:
  // Throws Fault. @returns whether the device was prepared anew
  bool repair(CardThread& thread, snd_pcm_t* pcm, int error) {
    if (error == -EINTR || error == -EAGAIN) return false;
    if (error != -EPIPE && error != -ESTRPIPE) throw alsaFault("card-lost", "it is gone", error);
    thread.xruns++;
    if (++count_ > kMostRepairs && nowNs() - lastAtNs_ < kHungNs) throw Fault{"card-lost", "it does not recover"};
    if (nowNs() - lastAtNs_ >= kHungNs) count_ = 0;
    lastAtNs_ = nowNs();
    if (int result = snd_pcm_prepare(pcm); result < 0) throw alsaFault("card-lost", "it does not recover", result);
    return true;
  }

 private:
  int64_t lastAtNs_ = 0;
  int count_ = 0;
};

// Waits until the card is ready for samples, at most `mostMs`. @returns an error of ALSA, or 0
inline int waitForCard(CardThread& thread, snd_pcm_t* pcm, int mostMs) {
  const int64_t since = nowNs();
  const int ready = snd_pcm_wait(pcm, mostMs);
  if (ready < 0) return ready;
  // Plugins say too early that they are ready; that must not become a busy loop.
  if (ready > 0 && nowNs() - since < kMsNs) thread.pause(kMsNs);
  return 0;
}

// The whole life of the thread: `work` plays or records until it is stopped, or throws Fault.
template <class Work>
void workUntilStopped(CardThread& thread, Work work) {
  Fault fault;
  bool failed = true;
  try {
    work();
    failed = false;
  } catch (const Fault& reason) {
    fault = reason;
  } catch (const std::exception& error) {
    fault = {"card-lost", error.what()};
  }
  {
    std::lock_guard lock(thread.mutex);
    thread.ended = true;
    thread.hasFailed = failed;
    thread.fault = fault;
    thread.changed.notify_all();
  }
  thread.look();
}
