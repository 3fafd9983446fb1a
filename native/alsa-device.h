// ALSA devices for mono 16-bit speech: opened without blocking, and refused with a reason that a person understands.
#pragma once
#include <alsa/asoundlib.h>

#include <cstdarg>
#include <cstdio>
#include <memory>
#include <string>

// Why a device can't be used; `code` is the one of the AppError that it becomes.
struct Fault {
  std::string code;
  std::string text;
};

struct PcmCloser {
  void operator()(snd_pcm_t* pcm) const { snd_pcm_close(pcm); }
};
using Pcm = std::unique_ptr<snd_pcm_t, PcmCloser>;

struct PcmFormat {
  snd_pcm_uframes_t periodSamples = 0;
  snd_pcm_uframes_t bufferSamples = 0;
};

// The last line that libasound would have printed on this thread; it says more than an errno.
inline thread_local char lastAlsaLine[256] = "";

inline void keepAlsaLine(const char*, int, const char*, int, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(lastAlsaLine, sizeof lastAlsaLine, format, arguments);
  va_end(arguments);
  for (char* at = lastAlsaLine; *at != '\0'; at++) {
    if (*at == '\n') *at = '\0';
  }
}

inline Fault alsaFault(const char* code, const std::string& what, int error) {
  std::string text = what + ": " + snd_strerror(error);
  if (lastAlsaLine[0] != '\0') text += std::string(" (") + lastAlsaLine + ")";
  return {code, text};
}

// Opens `device` with mono 16-bit samples at this very rate (ALSA's plug converts where a card has another), and with the
// periods and the buffer that are nearest to what `format` asks for; tells there what they are. Throws Fault.
inline Pcm openPcm(const std::string& device, snd_pcm_stream_t stream, unsigned rateHz, PcmFormat& format) {
  lastAlsaLine[0] = '\0';
  snd_pcm_t* opened = nullptr;
  if (int error = snd_pcm_open(&opened, device.c_str(), stream, SND_PCM_NONBLOCK); error < 0) {
    const char* code = error == -EBUSY ? "card-busy" : error == -EACCES || error == -EPERM ? "card-refused" : "card-absent";
    throw alsaFault(code, "it can't be opened", error);
  }
  Pcm pcm(opened);
  snd_pcm_hw_params_t* params;
  snd_pcm_hw_params_alloca(&params);
  snd_pcm_uframes_t period = format.periodSamples;
  snd_pcm_uframes_t buffer = format.bufferSamples;
  int error = snd_pcm_hw_params_any(opened, params);
  if (error < 0) throw alsaFault("card-absent", "it has no configuration", error);
  const auto need = [&](int result, const char* what) {
    if (result < 0) throw alsaFault("card-format", what, result);
  };
  need(snd_pcm_hw_params_set_access(opened, params, SND_PCM_ACCESS_RW_INTERLEAVED), "no interleaved access");
  need(snd_pcm_hw_params_set_format(opened, params, SND_PCM_FORMAT_S16), "no 16-bit samples");
  need(snd_pcm_hw_params_set_channels(opened, params, 1), "no mono");
  need(snd_pcm_hw_params_set_rate(opened, params, rateHz, 0), "not this sampling rate");
  need(snd_pcm_hw_params_set_period_size_near(opened, params, &period, nullptr), "no period size");
  need(snd_pcm_hw_params_set_buffer_size_near(opened, params, &buffer), "no buffer size");
  // A plugin meets its sound server only here: what it then refuses is the device, not the format.
  error = snd_pcm_hw_params(opened, params);
  if (error < 0) throw alsaFault(error == -EINVAL ? "card-format" : "card-absent", "it can't be set up", error);
  need(snd_pcm_hw_params_get_period_size(params, &format.periodSamples, nullptr), "no period size");
  need(snd_pcm_hw_params_get_buffer_size(params, &format.bufferSamples), "no buffer size");
  return pcm;
}
