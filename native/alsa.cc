// ALSA for Node.js: the module alsa.node, and what of it needs no thread of its own.
#include "alsa.h"

#include "alsa-device.h"

namespace {

// probe(device, 'capture' | 'playback', rateHz): resolves to null if it can be opened just now, else to { code, text }.
class Probe : public Napi::AsyncWorker {
 public:
  Probe(Napi::Env env, std::string device, snd_pcm_stream_t stream, unsigned rateHz)
      : AsyncWorker(env), deferred(Napi::Promise::Deferred::New(env)), device_(std::move(device)), stream_(stream), rateHz_(rateHz) {}

  Napi::Promise::Deferred deferred;

 protected:
  void Execute() override {
    try {
      PcmFormat format{rateHz_ / 100, 3 * (rateHz_ / 100)};
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
  exports.Set("Playback", definePlayback(env));
  exports.Set("Capture", defineCapture(env));
  exports.Set("probe", Napi::Function::New(env, probe));
  exports.Set("listDevices", Napi::Function::New(env, listDevices));
  return exports;
}

}  // namespace

NODE_API_MODULE(alsa, initialize)
