// The classes of the module alsa.node.
#pragma once
#include <napi.h>

Napi::Function definePlayback(Napi::Env env);
Napi::Function defineCapture(Napi::Env env);
