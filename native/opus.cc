// Opus by the libopus of the distribution, which decodes FEC, conceals, and picks its vector code for the processor it runs
// on. No call makes garbage: both classes work in arrays that they were given. See src/adapters/opus/native-opus.ts.
#include <napi.h>
#include <opus.h>

#include <memory>
#include <span>
#include <string>

namespace {

constexpr int kChannels = 1;

struct Destroy {
  void operator()(OpusEncoder* encoder) const { opus_encoder_destroy(encoder); }
  void operator()(OpusDecoder* decoder) const { opus_decoder_destroy(decoder); }
};

int32_t rateOf(const Napi::CallbackInfo& info) {
  if (!info[0].IsNumber()) throw Napi::TypeError::New(info.Env(), "rateHz must be a number");
  return info[0].As<Napi::Number>().Int32Value();
}

// The elements of a typed array; `info[index]` must be one of this type.
template <typename Element, napi_typedarray_type type>
std::span<Element> elements(const Napi::CallbackInfo& info, size_t index) {
  if (info[index].IsTypedArray() && info[index].As<Napi::TypedArray>().TypedArrayType() == type) {
    auto array = info[index].As<Napi::TypedArrayOf<Element>>();
    return {array.Data(), array.ElementLength()};
  }
  throw Napi::TypeError::New(info.Env(), "argument " + std::to_string(index) + " is no typed array of the right type");
}

std::span<int16_t> samplesOf(const Napi::CallbackInfo& info, size_t index) {
  return elements<int16_t, napi_int16_array>(info, index);
}

std::span<uint8_t> bytesOf(const Napi::CallbackInfo& info, size_t index) {
  return elements<uint8_t, napi_uint8_array>(info, index);
}

Napi::Value number(const Napi::CallbackInfo& info, int value) { return Napi::Number::New(info.Env(), value); }

// new Encoder(rateHz): application VOIP, mono. Every method gives what libopus returns: negative is an error of its.
class Encoder : public Napi::ObjectWrap<Encoder> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "Encoder",
                       {InstanceMethod("encode", &Encoder::encode), InstanceMethod("control", &Encoder::control),
                        InstanceMethod("free", &Encoder::free)});
  }

  explicit Encoder(const Napi::CallbackInfo& info) : ObjectWrap(info) {
    int error = OPUS_OK;
    encoder_.reset(opus_encoder_create(rateOf(info), kChannels, OPUS_APPLICATION_VOIP, &error));
    if (error != OPUS_OK) throw Napi::RangeError::New(info.Env(), opus_strerror(error));
  }

 private:
  // encode(samples: Int16Array, packet: Uint8Array): bytes in the packet
  Napi::Value encode(const Napi::CallbackInfo& info) {
    if (!encoder_) return number(info, OPUS_INVALID_STATE);
    const auto samples = samplesOf(info, 0);
    const auto packet = bytesOf(info, 1);
    return number(info, opus_encode(encoder_.get(), samples.data(), static_cast<int>(samples.size()), packet.data(),
                                    static_cast<opus_int32>(packet.size())));
  }

  // control(request, value): a request of opus_encoder_ctl that takes a number
  Napi::Value control(const Napi::CallbackInfo& info) {
    if (!encoder_) return number(info, OPUS_INVALID_STATE);
    const int32_t request = info[0].As<Napi::Number>();
    const int32_t value = info[1].As<Napi::Number>();
    switch (request) {
      case OPUS_SET_BITRATE_REQUEST:
      case OPUS_SET_MAX_BANDWIDTH_REQUEST:
      case OPUS_SET_COMPLEXITY_REQUEST:
      case OPUS_SET_INBAND_FEC_REQUEST:
      case OPUS_SET_PACKET_LOSS_PERC_REQUEST:
      case OPUS_SET_DTX_REQUEST:
      case OPUS_SET_SIGNAL_REQUEST:
        return number(info, opus_encoder_ctl(encoder_.get(), request, value));
      default:  // one that takes a pointer would write there
        return number(info, OPUS_UNIMPLEMENTED);
    }
  }

  Napi::Value free(const Napi::CallbackInfo& info) {
    encoder_.reset();
    return info.Env().Undefined();
  }

  std::unique_ptr<OpusEncoder, Destroy> encoder_;
};

// new Decoder(rateHz): to mono.
class Decoder : public Napi::ObjectWrap<Decoder> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "Decoder", {InstanceMethod("decode", &Decoder::decode), InstanceMethod("free", &Decoder::free)});
  }

  explicit Decoder(const Napi::CallbackInfo& info) : ObjectWrap(info) {
    int error = OPUS_OK;
    decoder_.reset(opus_decoder_create(rateOf(info), kChannels, &error));
    if (error != OPUS_OK) throw Napi::RangeError::New(info.Env(), opus_strerror(error));
  }

 private:
  // decode(packet: Uint8Array | null, samples: Int16Array, mostSamples, isFec): samples decoded; null conceals that many
  Napi::Value decode(const Napi::CallbackInfo& info) {
    if (!decoder_) return number(info, OPUS_INVALID_STATE);
    const auto packet = info[0].IsNull() ? std::span<uint8_t>{} : bytesOf(info, 0);
    const auto samples = samplesOf(info, 1);
    const int32_t mostSamples = info[2].As<Napi::Number>();
    const bool isFec = info[3].As<Napi::Boolean>();
    if (mostSamples < 0 || static_cast<size_t>(mostSamples) > samples.size()) return number(info, OPUS_BUFFER_TOO_SMALL);
    return number(info, opus_decode(decoder_.get(), packet.data(), static_cast<opus_int32>(packet.size()), samples.data(),
                                    mostSamples, isFec));
  }

  Napi::Value free(const Napi::CallbackInfo& info) {
    decoder_.reset();
    return info.Env().Undefined();
  }

  std::unique_ptr<OpusDecoder, Destroy> decoder_;
};

// errorText(code): what libopus calls its error
Napi::Value errorText(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), opus_strerror(info[0].As<Napi::Number>()));
}

Napi::Object initialize(Napi::Env env, Napi::Object exports) {
  exports.Set("Encoder", Encoder::define(env));
  exports.Set("Decoder", Decoder::define(env));
  exports.Set("version", opus_get_version_string());
  exports.Set("errorText", Napi::Function::New(env, errorText));
  return exports;
}

}  // namespace

NODE_API_MODULE(opus, initialize)
