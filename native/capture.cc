// Capture through ALSA for Node.js. A thread of its own reads, and asks JavaScript once a period to take what is there. See
// capture-line.h for the thread.
#include "alsa.h"
#include "capture-line.h"
#include "card-handle.h"

namespace {

// What waits longer than this is of no use to a conversation.
constexpr uint64_t kMostWaitingFrames = 30;

// The elements of a typed array of the options, which is written to: one of another type may be shorter than it seems.
template <typename Element, napi_typedarray_type type>
Napi::Reference<Napi::TypedArrayOf<Element>> arrayOf(const Napi::Object& options, const char* name) {
  const Napi::Value value = options.Get(name);
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != type) {
    throw Napi::TypeError::New(options.Env(), std::string(name) + " is no typed array of the right type");
  }
  return Napi::Persistent(value.As<Napi::TypedArrayOf<Element>>());
}

class CaptureListener : public CardListener {
 public:
  CaptureListener(std::shared_ptr<CaptureLine> line, const Napi::Object& options)
      : CardListener(line, options),
        line_(std::move(line)),
        samples_(arrayOf<int16_t, napi_int16_array>(options, "samples")),
        agesMs_(arrayOf<double, napi_float64_array>(options, "agesMs")),
        take_(Napi::Persistent(options.Get("take").As<Napi::Function>())) {}

 protected:
  void carry(Napi::Env env) override {
    FrameRing& ring = line_->ring;
    const uint64_t waiting = ring.pushed() - ring.popped();
    if (waiting > kMostWaitingFrames) {
      ring.skip(waiting - kMostWaitingFrames);
      line_->droppedFrames += waiting - kMostWaitingFrames;
    }
    while (!isClosed) {
      Napi::HandleScope scope(env);
      // Each time: who takes them may have given their memory away.
      Napi::Int16Array samples = samples_.Value();
      Napi::Float64Array agesMs = agesMs_.Value();
      const size_t room = std::min(samples.ElementLength() / line_->frameSamples, agesMs.ElementLength());
      uint32_t count = 0;
      int64_t atNs = 0;
      const int64_t now = nowNs();
      while (count < room && ring.pop(samples.Data() + count * line_->frameSamples, &atNs)) {
        agesMs[count++] = static_cast<double>(now - atNs) / kMsNs;
      }
      if (count == 0 || callBack(env, take_, {Napi::Number::New(env, count)}) == nullptr) return;
    }
  }

 private:
  const std::shared_ptr<CaptureLine> line_;
  Napi::Reference<Napi::Int16Array> samples_;
  Napi::Reference<Napi::Float64Array> agesMs_;
  Napi::FunctionReference take_;
};

uint32_t periodFramesOf(const Napi::Value& periodMs) {
  const uint32_t frames = periodMs.As<Napi::Number>().Uint32Value() / 10;
  if (frames < 1 || frames > kMostPeriodFrames) throw Napi::RangeError::New(periodMs.Env(), "periodMs");
  return frames;
}

// new Capture({ device, rateHz, periodMs, samples, agesMs, take, changed }): see src/adapters/alsa/native.ts.
class Capture : public Napi::ObjectWrap<Capture> {
 public:
  explicit Capture(const Napi::CallbackInfo& info) : ObjectWrap(info) {
    const auto options = info[0].As<Napi::Object>();
    const uint32_t rateHz = rateOf(options);
    const uint32_t periodFrames = periodFramesOf(options.Get("periodMs"));
    line_ = std::make_shared<CaptureLine>(options.Get("device").As<Napi::String>(), rateHz, periodFrames);
    handle_.start(info.Env(), "capture", line_, new CaptureListener(line_, options),
                  [line = line_.get()] { Reader(*line).run(); });
  }

  ~Capture() override { handle_.stop(Env()); }

  Napi::Value close(const Napi::CallbackInfo& info) {
    handle_.stop(info.Env());
    return info.Env().Undefined();
  }

  Napi::Value setPeriodMs(const Napi::CallbackInfo& info) {
    line_->periodFrames.store(periodFramesOf(info[0]));
    return info.Env().Undefined();
  }

  Napi::Value delayMs(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), static_cast<double>(line_->delayNs.load()) / kMsNs);
  }

  Napi::Value figures(const Napi::CallbackInfo& info) {
    Napi::Object figures = handle_.figures(info.Env());
    figures.Set("droppedFrames", line_->droppedFrames.load());
    return figures;
  }

 private:
  std::shared_ptr<CaptureLine> line_;
  CardHandle handle_;
};

}  // namespace

Napi::Function defineCapture(Napi::Env env) {
  return Capture::DefineClass(env, "Capture",
                              {Capture::InstanceMethod("close", &Capture::close),
                               Capture::InstanceMethod("setPeriodMs", &Capture::setPeriodMs),
                               Capture::InstanceMethod("delayMs", &Capture::delayMs),
                               Capture::InstanceMethod("figures", &Capture::figures)});
}
