// The writing side of playback: one thread, one device, frames of 10 ms out of a ring.
//
// How much is kept queued, and why: the card gets three frames (30 ms). When the first 10 ms of them are played there is
// room, and JavaScript is asked for a frame, which leaves it 16 ms to answer (20 ms less a margin for this thread's own
// lateness) before silence goes out in its place. A JavaScript loop that shares its CPU is late by 9-15 ms one time in a
// hundred, so less would be heard; more would only be delay. The ring holds no more than the card has room for, so it
// adds nothing to that: it is where a frame waits for the writer's turn.
#pragma once
#include <algorithm>

#include "card-thread.h"

constexpr size_t kQueuedFrames = 3;
constexpr size_t kPlaybackRingFrames = 8;
constexpr int64_t kMarginNs = 4 * kMsNs;
constexpr int kPlaybackWaitMs = 20;  // how long an order to stop may have to wait
constexpr uint32_t kMostLateFrames = 100;

struct PlaybackLine : CardThread {
  PlaybackLine(std::string deviceName, unsigned rate) : CardThread(std::move(deviceName), rate, kPlaybackRingFrames) {}

  // Up to which position of the ring frames are wanted.
  std::atomic<uint64_t> wanted{0};
  // Frames that silence stood in for: to be pulled and dropped, so that delay does not build up behind the speaker.
  std::atomic<uint32_t> lateFrames{0};
  std::atomic<uint32_t> starvedFrames{0};
  // When all that was written will have been heard; 0 while nothing plays.
  std::atomic<int64_t> heardUntilNs{0};
};

class Writer {
 public:
  explicit Writer(PlaybackLine& line) : line_(line), frame_(line.frameSamples), silence_(line.frameSamples, 0) {}

  // Plays until it is stopped. Throws Fault.
  void run() {
    format_ = {line_.frameSamples, kQueuedFrames * line_.frameSamples};
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
    while (!line_.isStopped()) isStarted_ ? turn() : start();
    snd_pcm_drop(pcm_.get());
  }

 private:
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
    if (queued + line_.frameSamples > target_ || !isMoving_) return waitToWrite(now);

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
    dryAtNs_ = now + line_.toNs(queued);
    movedAtNs_ = now;
    if (isMoving_) return;
    isMoving_ = true;
    line_.sayUp();
  }

  void ask(size_t frames) {
    const uint64_t wanted = line_.ring.popped() + std::min(frames, kPlaybackRingFrames);
    if (wanted > line_.wanted.exchange(wanted)) line_.look();
  }

  void waitForFrame(int64_t patienceNs) {
    std::unique_lock lock(line_.mutex);
    line_.changed.wait_for(lock, std::chrono::nanoseconds(std::min(patienceNs, kPlaybackWaitMs * kMsNs)),
                           [&] { return line_.stopped || line_.ring.pushed() > line_.ring.popped(); });
  }

  void waitToWrite(int64_t now) {
    if (now - movedAtNs_ > kHungNs) throw Fault{"card-hung", "it takes no sound for a second"};
    if (int error = waitForCard(line_, pcm_.get(), kPlaybackWaitMs); error < 0) recover(error);
  }

  void write(const int16_t* samples) {
    for (size_t done = 0; done < line_.frameSamples;) {
      const snd_pcm_sframes_t taken = snd_pcm_writei(pcm_.get(), samples + done, line_.frameSamples - done);
      if (taken == -EAGAIN) {
        if (line_.isStopped() || !isStarted_) return;
        line_.aliveAtNs.store(nowNs());
        waitToWrite(nowNs());
        continue;
      }
      if (taken < 0) return recover(static_cast<int>(taken));
      done += taken;
    }
    queued_ += line_.frameSamples;
    dryAtNs_ += kFrameNs;
    snd_pcm_sframes_t delay = 0;
    const bool known = snd_pcm_delay(pcm_.get(), &delay) == 0 && delay > 0;
    line_.heardUntilNs.store(nowNs() + line_.toNs(known ? static_cast<size_t>(delay) : queued_));
  }

  void recover(int error) {
    if (repairs_.repair(line_, pcm_.get(), error)) isStarted_ = false;
  }

  PlaybackLine& line_;
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
  Repairs repairs_;
};

inline void writeUntilStopped(PlaybackLine& line) {
  workUntilStopped(line, [&] { Writer(line).run(); });
  line.heardUntilNs.store(0);
}
