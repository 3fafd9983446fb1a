// Playback through ALSA for Node.js: what no package gives. A thread of its own writes; JavaScript is asked for each
// frame when the card has room for it. See playback-line.h for the thread.
#include <napi.h>

#include <thread>

#include "playback-line.h"

namespace {

// The JavaScript side of a line; owned by its thread-safe function, gone when that is finalized.
struct Listener {
  std::shared_ptr<Line> line;
  Napi::FunctionReference pull;
  Napi::FunctionReference changed;
  bool isClosed = false;
  bool saidUp = false;
  bool saidFailed = false;
};

void lookAtLine(Napi::Env env, Napi::Function, Listener* listener, void*);
using Wake = Napi::TypedThreadSafeFunction<Listener, void, lookAtLine>;

void sayChanges(Napi::Env env, Listener& listener) {
  Line& line = *listener.line;
  bool isUp;
  bool hasFailed;
  Fault fault;
  {
    std::lock_guard lock(line.mutex);
    isUp = line.isUp;
    hasFailed = line.hasFailed;
    fault = line.fault;
  }
  if (isUp && !listener.saidUp && !listener.isClosed) {
    listener.saidUp = true;
    listener.changed.Call({Napi::String::New(env, "up")});
  }
  if (hasFailed && !listener.saidFailed && !listener.isClosed) {
    listener.saidFailed = true;
    listener.changed.Call({Napi::String::New(env, fault.code), Napi::String::New(env, fault.text)});
  }
}

// A frame of the wanted length, or nothing where the function gave something else.
const int16_t* pulled(const Napi::Value& value, const Line& line) {
  if (!value.IsTypedArray()) return nullptr;
  const auto array = value.As<Napi::TypedArray>();
  if (array.TypedArrayType() != napi_int16_array || array.ElementLength() != line.frameSamples) return nullptr;
  return value.As<Napi::Int16Array>().Data();
}

void lookAtLine(Napi::Env env, Napi::Function, Listener* listener, void*) {
  if (static_cast<napi_env>(env) == nullptr || listener->isClosed) return;
  Napi::HandleScope scope(env);
  Line& line = *listener->line;
  sayChanges(env, *listener);
  for (uint32_t late = line.lateFrames.exchange(0); late > 0 && !listener->isClosed; late--) listener->pull.Call({});
  while (!listener->isClosed && line.ring.pushed() < line.wanted.load()) {
    Napi::HandleScope frameScope(env);
    const Napi::Value value = listener->pull.Call({});
    if (listener->isClosed) return;
    const int16_t* frame = pulled(value, line);
    if (frame == nullptr) throw Napi::TypeError::New(env, "pull() must give an Int16Array of 10 ms");
    if (!line.ring.push(frame)) return;
    std::lock_guard lock(line.mutex);
    line.changed.notify_all();
  }
}

// new Playback({ device, rateHz, pull, changed }): see src/adapters/alsa/native.ts.
class Playback : public Napi::ObjectWrap<Playback> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "Playback",
                       {InstanceMethod("close", &Playback::close), InstanceMethod("delayMs", &Playback::delayMs),
                        InstanceMethod("figures", &Playback::figures)});
  }

  explicit Playback(const Napi::CallbackInfo& info) : ObjectWrap(info) {
    const Napi::Env env = info.Env();
    const auto options = info[0].As<Napi::Object>();
    const std::string device = options.Get("device").As<Napi::String>();
    const uint32_t rateHz = options.Get("rateHz").As<Napi::Number>();
    if (rateHz < 8000 || rateHz > 48000 || rateHz % 100 != 0) throw Napi::RangeError::New(env, "rateHz");
    line_ = std::make_shared<Line>(device, rateHz);
    listener_ = new Listener{line_, Napi::Persistent(options.Get("pull").As<Napi::Function>()),
                             Napi::Persistent(options.Get("changed").As<Napi::Function>())};
    wake_ = Wake::New(env, "playback", 0, 1, listener_,
                      [](Napi::Env, void*, Listener* listener) { delete listener; }, static_cast<void*>(nullptr));
    line_->wake = [wake = wake_] { wake.NonBlockingCall(); };
    // Before Node.js takes itself down, the thread must be out of ALSA, if ALSA lets it.
    napi_add_env_cleanup_hook(env, leave, this);
    // Detached, as a card that hangs may never give it back; it holds on to `line` alone.
    std::thread([line = line_] { writeUntilStopped(*line); }).detach();
  }

  ~Playback() override { stop(Env()); }

 private:
  static void leave(void* self) {
    auto* playback = static_cast<Playback*>(self);
    const std::shared_ptr<Line> line = playback->line_;
    playback->stop(nullptr);
    std::unique_lock lock(line->mutex);
    line->changed.wait_for(lock, std::chrono::milliseconds(300), [&] { return line->ended; });
  }

  // No callback after this. Never waits for the card. Idempotent.
  void stop(napi_env env) {
    if (listener_ == nullptr) return;
    listener_->isClosed = true;
    listener_ = nullptr;
    {
      std::lock_guard lock(line_->mutex);
      line_->wake = nullptr;
      line_->stopped = true;
      line_->changed.notify_all();
    }
    wake_.Release();
    if (env != nullptr) napi_remove_env_cleanup_hook(env, leave, this);
  }

  Napi::Value close(const Napi::CallbackInfo& info) {
    stop(info.Env());
    return info.Env().Undefined();
  }

  Napi::Value delayMs(const Napi::CallbackInfo& info) {
    const int64_t heardUntil = line_->heardUntilNs.load();
    const uint64_t waiting = line_->ring.pushed() - line_->ring.popped();
    const int64_t delayNs = heardUntil == 0 ? 0 : std::max<int64_t>(0, heardUntil - nowNs()) + waiting * kFrameNs;
    return Napi::Number::New(info.Env(), static_cast<double>(delayNs) / kMsNs);
  }

  Napi::Value figures(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    auto figures = Napi::Object::New(env);
    figures.Set("xruns", line_->xruns.load());
    figures.Set("starvedFrames", line_->starvedFrames.load());
    figures.Set("stuckMs", static_cast<double>(nowNs() - line_->aliveAtNs.load()) / kMsNs);
    std::lock_guard lock(line_->mutex);
    figures.Set("ended", line_->ended);
    return figures;
  }

  std::shared_ptr<Line> line_;
  Listener* listener_ = nullptr;
  Wake wake_;
};

// probe(device, 'capture' | 'playback', rateHz): resolves to null if it can be opened just now, else to { code, text }.
class Probe : public Napi::AsyncWorker {
 public:
  Probe(Napi::Env env, std::string device, snd_pcm_stream_t stream, unsigned rateHz)
      : AsyncWorker(env), deferred(Napi::Promise::Deferred::New(env)), device_(std::move(device)), stream_(stream), rateHz_(rateHz) {}

  Napi::Promise::Deferred deferred;

 protected:
  void Execute() override {
    try {
      PcmFormat format;
      openPcm(device_, stream_, rateHz_, format);
    } catch (const Fault& reason) {
      fault_ = reason;
    }
  }

  void OnOK() override {
    if (fault_.code.empty()) return deferred.Resolve(Env().Null());
    auto fault = Napi::Object::New(Env());
    fault.Set("code", fault_.code);
    fault.Set("text", fault_.text);
    deferred.Resolve(fault);
  }

 private:
  const std::string device_;
  const snd_pcm_stream_t stream_;
  const unsigned rateHz_;
  Fault fault_;
};

Napi::Value probe(const Napi::CallbackInfo& info) {
  const std::string device = info[0].As<Napi::String>();
  const std::string stream = info[1].As<Napi::String>();
  const uint32_t rateHz = info[2].As<Napi::Number>();
  auto* worker = new Probe(info.Env(), device, stream == "capture" ? SND_PCM_STREAM_CAPTURE : SND_PCM_STREAM_PLAYBACK, rateHz);
  const Napi::Promise promise = worker->deferred.Promise();
  worker->Queue();
  return promise;
}

struct Hints {
  ~Hints() {
    if (all != nullptr) snd_device_name_free_hint(all);
  }
  void** all = nullptr;
};

std::string hint(const void* of, const char* name) {
  std::unique_ptr<char, decltype(&std::free)> text(snd_device_name_get_hint(of, name), std::free);
  return text ? text.get() : "";
}

// listDevices(): [{ device, description, capture, playback }] of what ALSA's configuration and the cards offer.
Napi::Value listDevices(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  auto devices = Napi::Array::New(env);
  Hints hints;
  if (snd_device_name_hint(-1, "pcm", &hints.all) < 0) return devices;
  uint32_t count = 0;
  for (void** at = hints.all; *at != nullptr; at++) {
    const std::string direction = hint(*at, "IOID");  // empty for both
    auto device = Napi::Object::New(env);
    device.Set("device", hint(*at, "NAME"));
    device.Set("description", hint(*at, "DESC"));
    device.Set("capture", direction != "Output");
    device.Set("playback", direction != "Input");
    devices.Set(count++, device);
  }
  return devices;
}

Napi::Object initialize(Napi::Env env, Napi::Object exports) {
  // libasound prints to stderr what it also returns; of the process as a whole, so capture is quiet as well.
  snd_lib_error_set_handler(keepAlsaLine);
  exports.Set("Playback", Playback::define(env));
  exports.Set("probe", Napi::Function::New(env, probe));
  exports.Set("listDevices", Napi::Function::New(env, listDevices));
  return exports;
}

}  // namespace

NODE_API_MODULE(playback, initialize)
