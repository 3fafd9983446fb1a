// The N-API side of playback: a `Playback` owns a writing thread (playback-line.h) and asks JavaScript for frames when the
// thread wants them.
//
//   new Playback({ device, rateHz, pull, changed })   pull(): Int16Array of 10 ms; changed(isUp, code?, text?)
//   delayMs(), xruns(), starvedFrames(), aliveMs(), close()
#include <napi.h>

#include <thread>

#include "playback-line.h"

namespace {

class Playback : public Napi::ObjectWrap<Playback> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "Playback",
                       {InstanceMethod("delayMs", &Playback::delayMs), InstanceMethod("xruns", &Playback::xruns),
                        InstanceMethod("starvedFrames", &Playback::starvedFrames),
                        InstanceMethod("aliveMs", &Playback::aliveMs), InstanceMethod("close", &Playback::close)});
  }

  explicit Playback(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Playback>(info) {
    Napi::Object options = info[0].As<Napi::Object>();
    line_ = std::make_shared<Line>(options.Get("device").ToString().Utf8Value(),
                                   options.Get("rateHz").ToNumber().Uint32Value());
    pull_ = Napi::Persistent(options.Get("pull").As<Napi::Function>());
    changed_ = Napi::Persistent(options.Get("changed").As<Napi::Function>());
    wake_ = Napi::ThreadSafeFunction::New(info.Env(), Napi::Function(), "entryphone-playback", 1, 1);
    line_->wake = [this] { wake_.NonBlockingCall([this](Napi::Env env, Napi::Function) { look(env); }); };
    Ref();  // lives until `close`, whatever JavaScript forgets
    std::thread([line = line_] { writeUntilStopped(*line); }).detach();
  }

 private:
  // On the JavaScript thread: what the writing thread wants, and what became of it.
  void look(Napi::Env env) {
    if (closed_) return;
    Napi::HandleScope scope(env);
    bool isUp, ended, failed;
    Fault fault;
    {
      std::lock_guard lock(line_->mutex);
      isUp = line_->isUp;
      ended = line_->ended;
      failed = line_->hasFailed;
      fault = line_->fault;
    }
    if (isUp && !toldUp_ && !ended) {
      toldUp_ = true;
      changed_.Call({Napi::Boolean::New(env, true)});
    }
    if (!ended) deliver(env);
    if (ended && failed && !toldEnd_) {
      toldEnd_ = true;
      changed_.Call({Napi::Boolean::New(env, false), Napi::String::New(env, fault.code), Napi::String::New(env, fault.text)});
    }
  }

  void deliver(Napi::Env env) {
    while (!closed_ && line_->ring.pushed() < line_->wanted.load()) {
      Napi::Value value = pull_.Call({});
      if (env.IsExceptionPending() || !value.IsTypedArray()) return;
      Napi::Int16Array frame = value.As<Napi::Int16Array>();
      if (frame.ElementLength() != line_->frameSamples) return;
      // The time of a frame that silence stood in for has passed: it is dropped, so that no delay builds up.
      uint32_t late = line_->lateFrames.load();
      if (late > 0 && line_->lateFrames.compare_exchange_strong(late, late - 1)) continue;
      if (!line_->ring.push(frame.Data())) return;
      std::lock_guard lock(line_->mutex);
      line_->changed.notify_one();
    }
  }

  Napi::Value delayMs(const Napi::CallbackInfo& info) {
    const int64_t until = line_->heardUntilNs.load();
    const double ring = static_cast<double>(line_->ring.pushed() - line_->ring.popped()) * 10;
    const double card = until == 0 ? 0 : std::max<double>(0, static_cast<double>(until - nowNs()) / kMsNs);
    return Napi::Number::New(info.Env(), until == 0 ? 0 : card + ring);
  }
  Napi::Value xruns(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), line_->xruns.load()); }
  Napi::Value starvedFrames(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), line_->starvedFrames.load());
  }
  // Since the writing thread last came round; old when a call to ALSA does not return.
  Napi::Value aliveMs(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), static_cast<double>(nowNs() - line_->aliveAtNs.load()) / kMsNs);
  }

  Napi::Value close(const Napi::CallbackInfo& info) {
    if (closed_) return info.Env().Undefined();
    closed_ = true;
    {
      std::lock_guard lock(line_->mutex);
      line_->stopped = true;
      line_->wake = nullptr;
      line_->changed.notify_all();
    }
    wake_.Release();
    Unref();
    return info.Env().Undefined();
  }

  std::shared_ptr<Line> line_;
  Napi::FunctionReference pull_;
  Napi::FunctionReference changed_;
  Napi::ThreadSafeFunction wake_;
  bool toldUp_ = false;
  bool toldEnd_ = false;
  bool closed_ = false;
};

// [{ device, description, capture, playback }], as snd_device_name_hint(3) knows them.
Napi::Value listCards(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Napi::Array cards = Napi::Array::New(env);
  void** hints = nullptr;
  if (snd_device_name_hint(-1, "pcm", &hints) < 0) return cards;
  uint32_t count = 0;
  for (void** hint = hints; *hint != nullptr; hint++) {
    const auto text = [&](const char* key) {
      std::unique_ptr<char, void (*)(void*)> value(snd_device_name_get_hint(*hint, key), std::free);
      return std::string(value ? value.get() : "");
    };
    const std::string direction = text("IOID");  // empty: both
    Napi::Object card = Napi::Object::New(env);
    card.Set("device", text("NAME"));
    card.Set("description", text("DESC"));
    card.Set("capture", direction != "Output");
    card.Set("playback", direction != "Input");
    cards.Set(count++, card);
  }
  snd_device_name_free_hint(hints);
  return cards;
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  snd_lib_error_set_handler(keepAlsaLine);
  exports.Set("Playback", Playback::define(env));
  exports.Set("listCards", Napi::Function::New(env, listCards));
  return exports;
}

}  // namespace

NODE_API_MODULE(playback, init)
