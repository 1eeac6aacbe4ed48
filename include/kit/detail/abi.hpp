// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <memory>
#include <memory_resource>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kit/abi.h"
#include "kit/driver.hpp"
#include "kit/id.hpp"
#include "kit/system/error.hpp"
#include "kit/system/mount.hpp"

/// \file
/// Both sides of the C boundary, as far as the three families share them. The *callee* is a class
/// behind a table (guard, emit); the *caller* holds table and self (call, any_driver). A value crosses by
/// to_abi, which borrows from it, and from_abi, which copies.

namespace kit {

// Hidden, whatever a plugin is compiled with: g++ gives the tables of a template default visibility as
// STB_GNU_UNIQUE symbols, and two plugins whose classes have one name would share them in spite of RTLD_LOCAL.
namespace [[gnu::visibility("hidden")]] detail {

// ---- growing structs ----------------------------------------------------------------------------

/// A struct that says how much of it there is.
template <class T>
concept growing = requires(T t) {
  t.size;
}
&&offsetof(T, size) == 0;

/// What the maker of *p knew of it; the rest is `otherwise`, by default zero.
template <growing T>
T known(const T* p, T otherwise = {}) noexcept {
  std::memcpy(&otherwise, p, std::min(p->size, sizeof(T)));
  return otherwise;
}

/// Fills as much of *out as its maker knows, which its `size` says and goes on saying.
template <growing T>
void give(T* out, T value) noexcept {
  value.size = out->size;
  std::memcpy(out, &value, std::min(out->size, sizeof(T)));
}

/// An enumerator from the other side; 1 ... `last` are known here. Throws unsupported, naming `what`.
template <class E>
E known_enum(std::uint32_t value, E last, std::string_view what) {
  if (value < 1 || value > static_cast<std::uint32_t>(last))
    fail(errc::unsupported, "{} {} is of a later version of the plugin interface", what, value);
  return static_cast<E>(value);
}

/// Memory for the arrays that structs of the ABI point to; freed as a whole, nothing is destroyed.
class scratch {
 public:
  scratch() noexcept {}  // NOLINT(*-member-init): the buffer is raw
  scratch(const scratch&) = delete;
  scratch& operator=(const scratch&) = delete;

  /// `count` zeroed elements; NULL for none.
  template <class T>
  T* array(std::size_t count) {
    static_assert(std::is_trivially_destructible_v<T>);
    if (count == 0) return nullptr;
    T* first = static_cast<T*>(memory_.allocate(count * sizeof(T), alignof(T)));
    std::uninitialized_value_construct_n(first, count);
    return first;
  }
  /// An array of what `convert` makes of each element of `list`.
  template <class T, class List, class Convert>
  T* each(const List& list, Convert convert) {
    T* first = array<T>(list.size());
    T* next = first;
    for (const auto& element : list) *next++ = convert(element);
    return first;
  }
  /// Likewise of growing structs, which are passed by pointer.
  template <class T, class List, class Convert>
  const T* const* pointers(const List& list, Convert convert) {
    const T* elements = each<T>(list, convert);
    const T** pointer = array<const T*>(list.size());
    for (std::size_t i = 0; i < list.size(); ++i) pointer[i] = elements + i;
    return pointer;
  }

 private:
  alignas(std::max_align_t) std::array<std::byte, 2048> buffer_;
  std::pmr::monotonic_buffer_resource memory_{buffer_.data(), buffer_.size()};
};

// ---- values ------------------------------------------------------------------------------------

inline kit_text to_abi(std::string_view s) noexcept { return {s.data(), s.size()}; }
inline std::string_view from_abi(kit_text t) noexcept { return {t.data, t.size}; }
inline std::string text(kit_text t) { return std::string(from_abi(t)); }
const kit_text* to_abi(const std::vector<std::string>& list, scratch& memory);
std::vector<std::string> from_abi(const kit_text* list, std::size_t count);

const kit_option* to_abi(std::span<const option> list, scratch& memory);
std::vector<option> from_abi(const kit_option* list, std::size_t count);

template <class Tag>
kit_id to_abi(const basic_id<Tag>& id) noexcept {
  kit_id raw;
  std::memcpy(raw.hex, id.text().data(), sizeof raw.hex);
  return raw;
}
/// Throws invalid if `raw` has not the form of an id: it may become a file name.
template <class Id>
Id from_abi(const kit_id& raw) {
  std::string_view hex(raw.hex, sizeof raw.hex);
  if (!Id::valid(hex)) fail(errc::invalid, "an id across the plugin interface is not 64 hexadecimal digits");
  return Id::from(hex);
}
template <class Id>
std::vector<Id> from_abi(const kit_id* list, std::size_t count) {
  std::vector<Id> ids(count);
  std::transform(list, list + count, ids.begin(), [](const kit_id& raw) { return from_abi<Id>(raw); });
  return ids;
}

kit_mount to_abi(const mount& m, scratch& memory);
mount from_abi(const kit_mount& m);

kit_config to_abi(const driver_config& c, scratch& memory);
driver_config from_abi(const kit_config& c);

// ---- the callee --------------------------------------------------------------------------------

/// Unwinds a driver whose caller wants no more elements. Not a std::exception: no driver means to catch it.
struct stopped {};

/// Hands one element to the caller. Throws stopped if it wants no more.
template <class Item>
void emit(const kit_sink& sink, const Item& item) {
  if (sink.put(sink.to, &item) != 0) throw stopped{};
}

/// The exception being handled as a status, told to the caller.
kit_status to_status(const kit_call* call) noexcept;

/// The caller, as this_call() shows it to the driver.
class caller final : public call_context {
 public:
  explicit caller(const kit_call* call) noexcept;
  [[nodiscard]] bool cancelled() const noexcept override;
  void progress(std::uint64_t done, std::uint64_t total) noexcept override;
  void log(log_level level, std::string_view line) noexcept override;
  int step(std::string_view name, step_edge edge) noexcept override;

 private:
  kit_call call_;
};

/// The boundary: serves one call by `body`, turning what it throws into a status.
template <class Body>
kit_status guard(const kit_call* call, Body&& body) noexcept {
  try {
    caller context(call);
    call_scope scope(context);
    body();
    return KIT_OK;
  } catch (...) {
    return to_status(call);
  }
}

void emit_probe(const kit_sink& sink, const probe_report& report);
void emit_schema(const kit_sink& sink, const std::vector<option_schema>& options);

/// What every class behind a table has beside its family's table.
template <driver D>
struct base_thunks {
  static void close(void* self) noexcept { delete static_cast<D*>(self); }
  static kit_status probe(const kit_call* call, void* self, kit_sink sink) noexcept {
    return guard(call, [&] { emit_probe(sink, static_cast<const D*>(self)->probe()); });
  }
};

// ---- the caller --------------------------------------------------------------------------------

/// One call through a table: carries this_call() across, keeps the message of a failure and what
/// our own sinks threw while foreign frames were below them, and throws either once those are gone.
class call {
 public:
  /// `driver` and `function` stand in the message of a driver that gives none.
  call(std::string_view driver, std::string_view function) noexcept;
  call(const call&) = delete;
  call& operator=(const call&) = delete;

  operator const kit_call*() const noexcept { return &raw_; }  // NOLINT(*-explicit-*): the first argument of all
  scratch memory;

  /// A sink that hands each element to `consume`, as far as the driver knew it. Must outlive the call.
  template <class Item, class Consume>
  struct consumer {
    call& owner;
    Consume consume;
    operator kit_sink() noexcept {  // NOLINT(*-explicit-*)
      return {this, [](void* to, const void* item) noexcept -> std::int32_t {
                auto& me = *static_cast<consumer*>(to);
                if (me.owner.thrown_) return 1;
                try {
                  if constexpr (growing<Item>)
                    me.consume(known(static_cast<const Item*>(item)));
                  else
                    me.consume(*static_cast<const Item*>(item));
                  return 0;
                } catch (...) {
                  me.owner.thrown_ = std::current_exception();
                  return 1;
                }
              }};
    }
  };
  template <class Item, class Consume>
  consumer<Item, Consume> each(Consume consume) noexcept {
    return {*this, std::move(consume)};
  }

  /// Returns if all went well; throws what our sink threw, or the driver's error.
  void check(kit_status status) const {
    if (status != KIT_OK || thrown_) [[unlikely]]
      raise(status);
  }

 private:
  [[noreturn]] void raise(kit_status status) const;

  kit_call raw_;
  call_context& context_;
  std::string_view driver_, function_;
  std::string message_;
  int sys_errno_ = 0;
  std::exception_ptr thrown_;
};

}  // namespace gnu::visibility("hidden")]]detail

/// The base of any_storage, any_network and any_isolation: one driver behind its C table, owned.
class any_driver {
 public:
  any_driver(any_driver&& other) noexcept
      : name_(std::move(other.name_)),
        self_(std::exchange(other.self_, nullptr)),
        table_(other.table_),
        close_(std::exchange(other.close_, nullptr)),
        probe_(other.probe_) {}
  any_driver& operator=(any_driver&& other) noexcept {
    any_driver old(std::move(*this));
    name_ = std::move(other.name_);
    self_ = std::exchange(other.self_, nullptr);
    table_ = other.table_;
    close_ = std::exchange(other.close_, nullptr);
    probe_ = other.probe_;
    return *this;
  }
  ~any_driver() {
    if (close_ != nullptr) close_(self_);
  }

  [[nodiscard]] std::string_view name() const noexcept { return name_; }
  /// Never throws for the driver: one that fails to answer is not usable, and the reason says so.
  [[nodiscard]] probe_report probe() const;

 protected:
  /// Takes `self`, which plugin.open made; a loader checked the plugin.
  any_driver(const kit_plugin& plugin, void* self)
      : name_(plugin.name), self_(self), table_(plugin.table), close_(plugin.close), probe_(plugin.probe) {}
  /// A class of this program behind `table`, which was made from it.
  template <driver D>
  any_driver(std::unique_ptr<D> d, const void* table)
      : name_(d->name()),
        self_(d.release()),
        table_(table),
        close_(detail::base_thunks<D>::close),
        probe_(detail::base_thunks<D>::probe) {}

  [[nodiscard]] void* self() const noexcept { return self_; }
  [[nodiscard]] const void* table() const noexcept { return table_; }

 private:
  std::string name_;
  void* self_;
  const void* table_;
  decltype(kit_plugin::close) close_;
  decltype(kit_plugin::probe) probe_;
};

}  // namespace kit
