/*
 * What dgram has no option for: the traffic class of a UDP socket.
 *
 *   mark(address: string, port: number, dscp: number): number     0, or the errno
 *
 * The socket of this process that is bound to the address and port is looked for among its open files, as Node.js no longer
 * tells the descriptor of one. ENOENT where there is none.
 */
#include <arpa/inet.h>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <dirent.h>
#include <napi.h>
#include <string>
#include <sys/socket.h>

/* TC_PRIO_INTERACTIVE (linux/pkt_sched.h): what queues of this machine and of its Wi-Fi card go by; more takes privileges. */
constexpr int PRIORITY = 6;

struct Endpoint {
	int family = AF_UNSPEC;
	in6_addr address{};
	in_port_t port = 0;
	bool operator==(const Endpoint &other) const {
		return family == other.family && port == other.port && memcmp(&address, &other.address, sizeof address) == 0;
	}
};

static Endpoint endpoint_of(const std::string &address, uint32_t port) {
	Endpoint endpoint;
	endpoint.port = htons(port);
	if (inet_pton(AF_INET, address.c_str(), &endpoint.address) == 1) endpoint.family = AF_INET;
	else if (inet_pton(AF_INET6, address.c_str(), &endpoint.address) == 1) endpoint.family = AF_INET6;
	return endpoint;
}

static Endpoint local_of(int fd) {
	Endpoint endpoint;
	sockaddr_storage bound{};
	socklen_t size = sizeof bound;
	int type = 0;
	socklen_t type_size = sizeof type;
	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_size) != 0 || type != SOCK_DGRAM) return endpoint;
	if (getsockname(fd, reinterpret_cast<sockaddr *>(&bound), &size) != 0) return endpoint;
	if (bound.ss_family == AF_INET) {
		const auto *four = reinterpret_cast<const sockaddr_in *>(&bound);
		memcpy(&endpoint.address, &four->sin_addr, sizeof four->sin_addr);
		endpoint.port = four->sin_port;
	} else if (bound.ss_family == AF_INET6) {
		const auto *six = reinterpret_cast<const sockaddr_in6 *>(&bound);
		endpoint.address = six->sin6_addr;
		endpoint.port = six->sin6_port;
	} else {
		return endpoint;
	}
	endpoint.family = bound.ss_family;
	return endpoint;
}

static int socket_at(const Endpoint &local) {
	DIR *files = opendir("/proc/self/fd");
	if (files == nullptr) return -1;
	int found = -1;
	for (dirent *entry; found < 0 && (entry = readdir(files)) != nullptr;) {
		if (entry->d_name[0] == '.') continue;
		const int fd = atoi(entry->d_name);
		if (fd != dirfd(files) && local_of(fd) == local) found = fd;
	}
	closedir(files);
	return found;
}

static int mark(const Endpoint &local, int dscp) {
	if (local.family == AF_UNSPEC) return EINVAL;
	const int fd = socket_at(local);
	if (fd < 0) return ENOENT;
	const int traffic_class = dscp << 2; /* RFC 2474, 3: the upper six bits */
	const bool six = local.family == AF_INET6;
	if (six ? setsockopt(fd, IPPROTO_IPV6, IPV6_TCLASS, &traffic_class, sizeof traffic_class)
		: setsockopt(fd, IPPROTO_IP, IP_TOS, &traffic_class, sizeof traffic_class))
		return errno;
	return setsockopt(fd, SOL_SOCKET, SO_PRIORITY, &PRIORITY, sizeof PRIORITY) == 0 ? 0 : errno;
}

static Napi::Value mark_from(const Napi::CallbackInfo &info) {
	Napi::Env env = info.Env();
	if (info.Length() != 3 || !info[0].IsString() || !info[1].IsNumber() || !info[2].IsNumber())
		throw Napi::TypeError::New(env, "mark(address: string, port: number, dscp: number)");
	const uint32_t port = info[1].As<Napi::Number>(), dscp = info[2].As<Napi::Number>();
	if (port > 65535 || dscp > 63) throw Napi::RangeError::New(env, "port or dscp");
	return Napi::Number::New(env, mark(endpoint_of(info[0].As<Napi::String>(), port), dscp));
}

static Napi::Object start(Napi::Env env, Napi::Object exports) {
	exports.Set("mark", Napi::Function::New(env, mark_from, "mark"));
	return exports;
}

NODE_API_MODULE(traffic_class, start)
