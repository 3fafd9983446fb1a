/*
 * sd_notify(3) for Node, which has no Unix datagram sockets: one message to the socket that systemd names in NOTIFY_SOCKET.
 *
 *   send(address: string, state: string): number     0, or the errno
 *
 * `address` is a path, or a name in the abstract namespace after an `@`. It waits at most 100 ms where the receiver's queue is
 * full, so that a manager that doesn't read can't hang the event loop.
 */
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <napi.h>
#include <string>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

static int send_state(const std::string &address, const std::string &state) {
	sockaddr_un to{};
	to.sun_family = AF_UNIX;
	if (address.size() < 2 || (address[0] != '/' && address[0] != '@')) return EAFNOSUPPORT;
	if (address.size() > sizeof to.sun_path - (address[0] == '/')) return ENAMETOOLONG;
	memcpy(to.sun_path, address.data(), address.size());
	socklen_t size = offsetof(sockaddr_un, sun_path) + address.size();
	if (address[0] == '@') to.sun_path[0] = '\0'; /* abstract: by its length, without a closing zero */
	else size += 1;

	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0) return errno;
	timeval limit{ 0, 100'000 };
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
	ssize_t sent = sendto(fd, state.data(), state.size(), MSG_NOSIGNAL, reinterpret_cast<sockaddr *>(&to), size);
	int result = sent < 0 ? errno : 0;
	close(fd);
	return result;
}

static Napi::Value send_from(const Napi::CallbackInfo &info) {
	Napi::Env env = info.Env();
	if (info.Length() != 2 || !info[0].IsString() || !info[1].IsString())
		throw Napi::TypeError::New(env, "send(address: string, state: string)");
	return Napi::Number::New(env, send_state(info[0].As<Napi::String>(), info[1].As<Napi::String>()));
}

static Napi::Object start(Napi::Env env, Napi::Object exports) {
	exports.Set("send", Napi::Function::New(env, send_from, "send"));
	return exports;
}

NODE_API_MODULE(sd_notify, start)
