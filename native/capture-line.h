// The reading side of capture: one thread, one device, frames of 10 ms into a ring.
//
// The card's buffer and the ring are long, which costs no delay, as both are emptied at once: they are for the time in which
// this thread, or JavaScript, does not get its turn. What comes out is counted from the newest sample back, so that after such
// a time every frame still has the time at which it reached the card, and what was lost shows as a gap.
#pragma once
#include <algorithm>

#include "card-thread.h"

constexpr size_t kMostPeriodFrames = 4;
constexpr size_t kCardFrames = 24;
constexpr size_t kCaptureRingFrames = 64;
constexpr int kCaptureWaitMs = 20;  // how long an order to stop may have to wait

struct CaptureLine : CardThread {
  CaptureLine(std::string deviceName, unsigned rate, uint32_t frames)
      : CardThread(std::move(deviceName), rate, kCaptureRingFrames), periodFrames(frames) {}

  // How many frames are handed over at once; may change at any time.
  std::atomic<uint32_t> periodFrames;
  // Frames that found the ring full, or were too old when JavaScript came.
  std::atomic<uint32_t> droppedFrames{0};
  // How long the newest sample that was read had been in the card and on its way, as ALSA says.
  std::atomic<int64_t> delayNs{0};
};

class Reader {
 public:
  explicit Reader(CaptureLine& line) : line_(line), period_(kMostPeriodFrames * line.frameSamples) {}

  // Records until it is stopped. Throws Fault.
  void run() {
    const size_t periodSamples = line_.periodFrames * line_.frameSamples;
    format_ = {periodSamples, std::max(kCardFrames * line_.frameSamples, 4 * periodSamples)};
    pcm_ = openPcm(line_.device, SND_PCM_STREAM_CAPTURE, line_.rateHz, format_);
    if (format_.bufferSamples < 2 * line_.frameSamples) throw Fault{"card-format", "its buffer is shorter than 20 ms"};
    readAtNs_ = nowNs();
    while (!line_.isStopped()) isStarted_ ? turn() : start();
    snd_pcm_drop(pcm_.get());
  }

 private:
  void start() {
    fill_ = 0;
    usePeriod();
    if (int error = snd_pcm_start(pcm_.get()); error < 0) throw alsaFault("card-lost", "it does not start", error);
    isStarted_ = true;
  }

  // Between two periods alone, so that packets of as many frames stay in step with them.
  void usePeriod() {
    const uint32_t frames = line_.periodFrames.load();
    if (frames == periodFrames_) return;
    periodFrames_ = frames;
    snd_pcm_sw_params_t* params;
    snd_pcm_sw_params_alloca(&params);
    snd_pcm_sw_params_current(pcm_.get(), params);
    const size_t most = format_.bufferSamples / 2;
    snd_pcm_sw_params_set_avail_min(pcm_.get(), params, std::min(frames * line_.frameSamples, most));
    if (int error = snd_pcm_sw_params(pcm_.get(), params); error < 0) throw alsaFault("card-format", "it can't be set up", error);
  }

  void turn() {
    const int64_t now = nowNs();
    line_.aliveAtNs.store(now);
    const snd_pcm_sframes_t available = snd_pcm_avail_update(pcm_.get());
    if (available < 0) return recover(static_cast<int>(available));
    if (available > 0) return read(available, now);
    if (now - readAtNs_ > kHungNs) throw Fault{"card-hung", "it gives no sound for a second"};
    if (int error = waitForCard(line_, pcm_.get(), kCaptureWaitMs); error < 0) recover(error);
  }

  void read(size_t available, int64_t now) {
    if (!isUp_) {
      isUp_ = true;
      line_.sayUp();
    }
    bool isComplete = false;
    while (available > 0) {
      const size_t periodSamples = periodFrames_ * line_.frameSamples;
      const size_t wanted = std::min(available, periodSamples - fill_);
      const snd_pcm_sframes_t taken = snd_pcm_readi(pcm_.get(), period_.data() + fill_, wanted);
      if (taken == 0 || taken == -EAGAIN) break;
      if (taken < 0) {
        recover(static_cast<int>(taken));
        break;
      }
      readAtNs_ = now;
      available -= taken;
      fill_ += taken;
      if (fill_ < periodSamples) continue;
      push(now - line_.toNs(available));
      isComplete = true;
    }
    if (isComplete) line_.look();
  }

  void push(int64_t lastSampleAtNs) {
    for (uint32_t i = 0; i < periodFrames_; i++) {
      const int64_t atNs = lastSampleAtNs - (periodFrames_ - 1 - i) * kFrameNs;
      if (!line_.ring.push(period_.data() + i * line_.frameSamples, atNs)) line_.droppedFrames++;
    }
    fill_ = 0;
    snd_pcm_sframes_t delay = 0;
    if (snd_pcm_delay(pcm_.get(), &delay) == 0 && delay >= 0) line_.delayNs.store(line_.toNs(delay));
    usePeriod();
  }

  void recover(int error) {
    if (repairs_.repair(line_, pcm_.get(), error)) isStarted_ = false;
  }

  CaptureLine& line_;
  std::vector<int16_t> period_;
  Pcm pcm_;
  PcmFormat format_;
  size_t fill_ = 0;
  uint32_t periodFrames_ = 0;
  bool isStarted_ = false;
  bool isUp_ = false;
  int64_t readAtNs_ = 0;
  Repairs repairs_;
};
