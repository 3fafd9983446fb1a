// The writing side of playback: one thread, one device, frames of 10 ms out of a ring.
//
// How much is kept queued, and why: the card gets three frames (30 ms). When the first 10 ms of them are played there is
// room, and JavaScript is asked for a frame, which leaves it 16 ms to answer (20 ms less a margin for this thread's own
// lateness) before silence goes out in its place. A JavaScript loop that shares its CPU is late by 9-15 ms one time in a
// hundred, so less would be heard; more would only be delay. The ring holds no more than the card has room for, so it
// adds nothing to that: it is where a frame waits for the writer's turn.
#pragma once
#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <functional>
#include <mutex>
#include <vector>

#include "alsa-device.h"

constexpr size_t kQueuedFrames = 3;
constexpr size_t kRingFrames = 8;
constexpr int64_t kMsNs = 1'000'000;
constexpr int64_t kFrameNs = 10 * kMsNs;
constexpr int64_t kMarginNs = 4 * kMsNs;
constexpr int64_t kHungNs = 1000 * kMsNs;
constexpr int kWaitMs = 20;  // how long an order to stop may have to wait
constexpr uint32_t kMostLateFrames = 100;

inline int64_t nowNs() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Bounded, lock-free, for one producer and one consumer. Positions only grow.
class FrameRing {
 public:
  explicit FrameRing(size_t frameSamples) : frameSamples_(frameSamples), samples_(frameSamples * kRingFrames) {}
  uint64_t pushed() const { return pushed_.load(std::memory_order_acquire); }
  uint64_t popped() const { return popped_.load(std::memory_order_acquire); }
  bool push(const int16_t* frame) {
    const uint64_t at = pushed_.load(std::memory_order_relaxed);
    if (at - popped() == kRingFrames) return false;
    std::memcpy(slot(at), frame, frameSamples_ * sizeof(int16_t));
    pushed_.store(at + 1, std::memory_order_release);
    return true;
  }
  bool pop(int16_t* frame) {
    const uint64_t at = popped_.load(std::memory_order_relaxed);
    if (at == pushed()) return false;
    std::memcpy(frame, slot(at), frameSamples_ * sizeof(int16_t));
    popped_.store(at + 1, std::memory_order_release);
    return true;
  }

 private:
  int16_t* slot(uint64_t at) { return samples_.data() + (at % kRingFrames) * frameSamples_; }
  const size_t frameSamples_;
  std::vector<int16_t> samples_;
  std::atomic<uint64_t> pushed_{0};
  std::atomic<uint64_t> popped_{0};
};

// What the JavaScript side and the writing thread share; both hold it, so a thread that a hung card keeps may be left
// behind.
struct Line {
  Line(std::string deviceName, unsigned rate)
      : device(std::move(deviceName)), rateHz(rate), frameSamples(rate / 100), ring(frameSamples) {}

  const std::string device;
  const unsigned rateHz;
  const size_t frameSamples;
  FrameRing ring;
  // Up to which position of the ring frames are wanted.
  std::atomic<uint64_t> wanted{0};
  // Frames that silence stood in for: to be pulled and dropped, so that delay does not build up behind the speaker.
  std::atomic<uint32_t> lateFrames{0};
  std::atomic<uint32_t> xruns{0};
  std::atomic<uint32_t> starvedFrames{0};
  // When all that was written will have been heard; 0 while nothing plays.
  std::atomic<int64_t> heardUntilNs{0};
  // When the thread last came round; it is stuck in a call to ALSA when this gets old.
  std::atomic<int64_t> aliveAtNs{nowNs()};

  std::mutex mutex;
  std::condition_variable changed;
  // Guarded by `mutex`:
  bool stopped = false;
  bool ended = false;
  bool isUp = false;
  bool hasFailed = false;
  Fault fault;
  std::function<void()> wake;  // asks the JavaScript side to look; empty once that is closed
};

class Writer {
 public:
  explicit Writer(Line& line) : line_(line), frame_(line.frameSamples), silence_(line.frameSamples, 0) {}

  // Plays until it is stopped. Throws Fault.
  void run() {
    pcm_ = openPcm(line_.device, SND_PCM_STREAM_PLAYBACK, line_.rateHz, format_);
    target_ = std::min<size_t>(format_.bufferSamples,
                               std::max<size_t>(kQueuedFrames * line_.frameSamples, 2 * format_.periodSamples));
    if (target_ < line_.frameSamples) throw Fault{"card-format", "its buffer is shorter than 10 ms"};
    snd_pcm_sw_params_t* params;
    snd_pcm_sw_params_alloca(&params);
    snd_pcm_sw_params_current(pcm_.get(), params);
    snd_pcm_sw_params_set_start_threshold(pcm_.get(), params, target_);
    snd_pcm_sw_params_set_avail_min(pcm_.get(), params, format_.bufferSamples - target_ + line_.frameSamples);
    if (int error = snd_pcm_sw_params(pcm_.get(), params); error < 0) throw alsaFault("card-format", "it can't be set up", error);
    while (!stopped()) isStarted_ ? turn() : start();
    snd_pcm_drop(pcm_.get());
  }

 private:
  bool stopped() {
    std::lock_guard lock(line_.mutex);
    return line_.stopped;
  }

  int64_t toNs(size_t samples) const { return static_cast<int64_t>(samples) * 1'000'000'000 / line_.rateHz; }

  // Begins with silence, so that nothing is asked of JavaScript before the card moves.
  void start() {
    queued_ = 0;
    isStarted_ = true;
    isMoving_ = false;
    movedAtNs_ = nowNs();
    while (isStarted_ && queued_ + line_.frameSamples <= target_) write(silence_.data());
    if (isStarted_ && snd_pcm_state(pcm_.get()) == SND_PCM_STATE_PREPARED) {
      if (int error = snd_pcm_start(pcm_.get()); error < 0) throw alsaFault("card-lost", "it does not start", error);
    }
  }

  void turn() {
    const int64_t now = nowNs();
    line_.aliveAtNs.store(now);
    const snd_pcm_sframes_t available = snd_pcm_avail_update(pcm_.get());
    if (available < 0) return recover(static_cast<int>(available));
    const size_t queued = format_.bufferSamples - std::min<size_t>(available, format_.bufferSamples);
    if (queued < queued_) moved(queued, now);
    if (queued + line_.frameSamples > target_ || !isMoving_) return waitForCard(now);

    ask((target_ - queued) / line_.frameSamples);
    if (line_.ring.pop(frame_.data())) return write(frame_.data());
    const int64_t patienceNs = dryAtNs_ - kMarginNs - now;
    if (patienceNs > 0) return waitForFrame(patienceNs);
    line_.starvedFrames++;
    if (line_.lateFrames < kMostLateFrames) line_.lateFrames++;
    write(silence_.data());
  }

  // Some cards tell their position by whole periods: only at the moment when it moves is it right.
  void moved(size_t queued, int64_t now) {
    queued_ = queued;
    dryAtNs_ = now + toNs(queued);
    movedAtNs_ = now;
    if (isMoving_) return;
    isMoving_ = true;
    std::lock_guard lock(line_.mutex);
    line_.isUp = true;
    if (line_.wake) line_.wake();
  }

  void ask(size_t frames) {
    const uint64_t wanted = line_.ring.popped() + std::min(frames, kRingFrames);
    if (wanted <= line_.wanted.exchange(wanted)) return;
    std::lock_guard lock(line_.mutex);
    if (line_.wake) line_.wake();
  }

  void waitForFrame(int64_t patienceNs) {
    std::unique_lock lock(line_.mutex);
    line_.changed.wait_for(lock, std::chrono::nanoseconds(std::min(patienceNs, kWaitMs * kMsNs)),
                           [&] { return line_.stopped || line_.ring.pushed() > line_.ring.popped(); });
  }

  void waitForCard(int64_t now) {
    if (now - movedAtNs_ > kHungNs) throw Fault{"card-hung", "it takes no sound for a second"};
    const int ready = snd_pcm_wait(pcm_.get(), kWaitMs);
    if (ready < 0) return recover(ready);
    // Plugins say too early that there is room; that must not become a busy loop.
    if (ready > 0 && nowNs() - now < kMsNs) {
      std::unique_lock lock(line_.mutex);
      line_.changed.wait_for(lock, std::chrono::milliseconds(1), [&] { return line_.stopped; });
    }
  }

  void write(const int16_t* samples) {
    for (size_t done = 0; done < line_.frameSamples;) {
      const snd_pcm_sframes_t taken = snd_pcm_writei(pcm_.get(), samples + done, line_.frameSamples - done);
      if (taken == -EAGAIN) {
        if (stopped() || !isStarted_) return;
        line_.aliveAtNs.store(nowNs());
        waitForCard(nowNs());
        continue;
      }
      if (taken < 0) return recover(static_cast<int>(taken));
      done += taken;
    }
    queued_ += line_.frameSamples;
    dryAtNs_ += kFrameNs;
    snd_pcm_sframes_t delay = 0;
    const bool known = snd_pcm_delay(pcm_.get(), &delay) == 0 && delay > 0;
    line_.heardUntilNs.store(nowNs() + toNs(known ? static_cast<size_t>(delay) : queued_));
  }

  // An underrun, or the end of a suspension, is repaired; anything else is the loss of the card.
  void recover(int error) {
    if (error == -EINTR || error == -EAGAIN) return;
    if (error != -EPIPE && error != -ESTRPIPE) throw alsaFault("card-lost", "it is gone", error);
    line_.xruns++;
    if (++repairs_ > kMostRepairs && nowNs() - repairedAtNs_ < kHungNs) throw Fault{"card-lost", "it does not recover"};
    if (nowNs() - repairedAtNs_ >= kHungNs) repairs_ = 0;
    repairedAtNs_ = nowNs();
    if (int result = snd_pcm_prepare(pcm_.get()); result < 0) throw alsaFault("card-lost", "it does not recover", result);
    isStarted_ = false;
  }

  static constexpr int kMostRepairs = 20;
  Line& line_;
  std::vector<int16_t> frame_;
  const std::vector<int16_t> silence_;
  Pcm pcm_;
  PcmFormat format_;
  size_t target_ = 0;
  size_t queued_ = 0;
  bool isStarted_ = false;
  bool isMoving_ = false;
  int64_t movedAtNs_ = 0;
  int64_t dryAtNs_ = 0;
  int64_t repairedAtNs_ = 0;
  int repairs_ = 0;
};

inline void writeUntilStopped(Line& line) {
  Fault fault;
  bool failed = false;
  try {
    Writer(line).run();
  } catch (const Fault& reason) {
    fault = reason;
    failed = true;
  } catch (const std::exception& error) {
    fault = {"card-lost", error.what()};
    failed = true;
  }
  line.heardUntilNs.store(0);
  std::lock_guard lock(line.mutex);
  line.ended = true;
  line.hasFailed = failed;
  line.fault = fault;
  line.changed.notify_all();
  if (line.wake) line.wake();
}
