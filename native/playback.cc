// Playback through ALSA for Node.js: what no package gives. A thread of its own writes; JavaScript is asked for each
// frame when the card has room for it. See playback-line.h for the thread.
#include "alsa.h"
#include "card-handle.h"
#include "playback-line.h"

namespace {

class PlaybackListener : public CardListener {
 public:
  PlaybackListener(std::shared_ptr<PlaybackLine> line, const Napi::Object& options)
      : CardListener(line, options), line_(std::move(line)), pull_(Napi::Persistent(options.Get("pull").As<Napi::Function>())) {}

 protected:
  void carry(Napi::Env env) override {
    for (uint32_t late = line_->lateFrames.exchange(0); late > 0 && !isClosed; late--) {
      if (callBack(env, pull_, {}) == nullptr) return;
    }
    while (!isClosed && line_->ring.pushed() < line_->wanted.load()) {
      Napi::HandleScope scope(env);
      const napi_value value = callBack(env, pull_, {});
      if (value == nullptr || isClosed) return;
      const int16_t* frame = pulled(Napi::Value(env, value));
      if (frame == nullptr) throw Napi::TypeError::New(env, "pull() must give an Int16Array of 10 ms");
      if (!line_->ring.push(frame)) return;
      std::lock_guard lock(line_->mutex);
      line_->changed.notify_all();
    }
  }

 private:
  // A frame of the wanted length, or nothing where the function gave something else.
  const int16_t* pulled(const Napi::Value& value) {
    if (!value.IsTypedArray()) return nullptr;
    const auto array = value.As<Napi::TypedArray>();
    if (array.TypedArrayType() != napi_int16_array || array.ElementLength() != line_->frameSamples) return nullptr;
    return value.As<Napi::Int16Array>().Data();
  }

  const std::shared_ptr<PlaybackLine> line_;
  Napi::FunctionReference pull_;
};

// new Playback({ device, rateHz, pull, changed }): see src/adapters/alsa/native.ts.
class Playback : public Napi::ObjectWrap<Playback> {
 public:
  explicit Playback(const Napi::CallbackInfo& info) : ObjectWrap(info) {
    const auto options = info[0].As<Napi::Object>();
    const uint32_t rateHz = rateOf(options);
    line_ = std::make_shared<PlaybackLine>(options.Get("device").As<Napi::String>(), rateHz);
    handle_.start(info.Env(), "playback", line_, new PlaybackListener(line_, options),
                  [line = line_.get()] { Writer(*line).run(); });
  }

  ~Playback() override { handle_.stop(Env()); }

  Napi::Value close(const Napi::CallbackInfo& info) {
    handle_.stop(info.Env());
    return info.Env().Undefined();
  }

  Napi::Value delayMs(const Napi::CallbackInfo& info) {
    const int64_t heardUntil = line_->heardUntilNs.load();
    const uint64_t waiting = line_->ring.pushed() - line_->ring.popped();
    const int64_t delayNs = heardUntil == 0 ? 0 : std::max<int64_t>(0, heardUntil - nowNs()) + waiting * kFrameNs;
    return Napi::Number::New(info.Env(), static_cast<double>(delayNs) / kMsNs);
  }

  Napi::Value figures(const Napi::CallbackInfo& info) {
    Napi::Object figures = handle_.figures(info.Env());
    figures.Set("starvedFrames", line_->starvedFrames.load());
    return figures;
  }

 private:
  std::shared_ptr<PlaybackLine> line_;
  CardHandle handle_;
};

}  // namespace

Napi::Function definePlayback(Napi::Env env) {
  return Playback::DefineClass(env, "Playback",
                               {Playback::InstanceMethod("close", &Playback::close),
                                Playback::InstanceMethod("delayMs", &Playback::delayMs),
                                Playback::InstanceMethod("figures", &Playback::figures)});
}
