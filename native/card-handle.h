// The JavaScript side of a card's thread: starts it, is told by it, and lets go of it without ever waiting for the card.
#pragma once
#include <napi.h>

#include <memory>
#include <thread>

#include "card-thread.h"

// Null where the function threw, or where its environment is just ending: then nothing more may be called, and what was
// thrown is on its way. (node-addon-api's own call aborts the process when a worker ends in the midst of it.)
inline napi_value callBack(Napi::Env env, const Napi::FunctionReference& function, std::initializer_list<napi_value> arguments) {
  napi_value result = nullptr;
  const napi_status status =
      napi_call_function(env, env.Undefined(), function.Value(), arguments.size(), arguments.begin(), &result);
  return status == napi_ok ? result : nullptr;
}

// Owned by its thread-safe function, gone when that is finalized.
class CardListener {
 public:
  CardListener(std::shared_ptr<CardThread> thread, const Napi::Object& options)
      : thread_(std::move(thread)), changed_(Napi::Persistent(options.Get("changed").As<Napi::Function>())) {}
  virtual ~CardListener() = default;

  void look(Napi::Env env) {
    thread_->isAsked.store(false);
    if (isClosed) return;
    Napi::HandleScope scope(env);
    if (sayChanges(env) && !isClosed) carry(env);
  }

  bool isClosed = false;

 protected:
  // Moves frames between the ring and JavaScript, which may close the card meanwhile; leaves off when it can't be called.
  virtual void carry(Napi::Env env) = 0;

 private:
  bool sayChanges(Napi::Env env) {
    bool isUp;
    bool hasFailed;
    Fault fault;
    {
      std::lock_guard lock(thread_->mutex);
      isUp = thread_->isUp;
      hasFailed = thread_->hasFailed;
      if (hasFailed) fault = thread_->fault;
    }
    if (isUp && !saidUp_) {
      saidUp_ = true;
      if (callBack(env, changed_, {Napi::String::New(env, "up")}) == nullptr) return false;
    }
    if (hasFailed && !saidFailed_ && !isClosed) {
      saidFailed_ = true;
      const napi_value code = Napi::String::New(env, fault.code);
      if (callBack(env, changed_, {code, Napi::String::New(env, fault.text)}) == nullptr) return false;
    }
    return true;
  }

  const std::shared_ptr<CardThread> thread_;
  Napi::FunctionReference changed_;
  bool saidUp_ = false;
  bool saidFailed_ = false;
};

inline void lookAtCard(Napi::Env env, Napi::Function, CardListener* listener, void*) {
  if (static_cast<napi_env>(env) != nullptr) listener->look(env);
}

class CardHandle {
 public:
  // Runs `work` on a thread of its own, which holds on to `thread` alone: a card that hangs may never give it back.
  template <class Work>
  void start(Napi::Env env, const char* name, std::shared_ptr<CardThread> thread, CardListener* listener, Work work) {
    thread_ = std::move(thread);
    listener_ = listener;
    wake_ = Wake::New(env, name, 0, 1, listener, [](Napi::Env, void*, CardListener* gone) { delete gone; },
                      static_cast<void*>(nullptr));
    thread_->wake = [wake = wake_] { wake.NonBlockingCall(); };
    // Before Node.js takes itself down, the thread must be out of ALSA, if ALSA lets it.
    napi_add_env_cleanup_hook(env, leave, this);
    std::thread([shared = thread_, work] { workUntilStopped(*shared, work); }).detach();
  }

  // No callback after this. Never waits for the card. Idempotent.
  void stop(napi_env env) {
    if (listener_ == nullptr) return;
    listener_->isClosed = true;
    listener_ = nullptr;
    {
      std::lock_guard lock(thread_->mutex);
      thread_->wake = nullptr;
      thread_->stopped = true;
      thread_->changed.notify_all();
    }
    wake_.Release();
    if (env != nullptr) napi_remove_env_cleanup_hook(env, leave, this);
  }

  Napi::Object figures(Napi::Env env) {
    auto figures = Napi::Object::New(env);
    figures.Set("xruns", thread_->xruns.load());
    figures.Set("stuckMs", static_cast<double>(nowNs() - thread_->aliveAtNs.load()) / kMsNs);
    std::lock_guard lock(thread_->mutex);
    figures.Set("ended", thread_->ended);
    return figures;
  }

 private:
  using Wake = Napi::TypedThreadSafeFunction<CardListener, void, lookAtCard>;

  static void leave(void* self) {
    auto* handle = static_cast<CardHandle*>(self);
    const std::shared_ptr<CardThread> thread = handle->thread_;
    handle->stop(nullptr);
    std::unique_lock lock(thread->mutex);
    thread->changed.wait_for(lock, std::chrono::milliseconds(300), [&] { return thread->ended; });
  }

  std::shared_ptr<CardThread> thread_;
  CardListener* listener_ = nullptr;
  Wake wake_;
};

// `rateHz` of the options. Throws RangeError.
inline uint32_t rateOf(const Napi::Object& options) {
  const uint32_t rateHz = options.Get("rateHz").As<Napi::Number>();
  if (rateHz < 8000 || rateHz > 48000 || rateHz % 100 != 0) throw Napi::RangeError::New(options.Env(), "rateHz");
  return rateHz;
}
