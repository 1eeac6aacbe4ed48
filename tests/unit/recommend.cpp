// SPDX-License-Identifier: Apache-2.0
#include "kit/engine/recommend.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <set>

#include "kit/system/error.hpp"

using namespace kit;

namespace {

constexpr weight two[] = {{"provision_ms", 3}, {"read_mb_s", 1}};
constexpr purpose little{"little", "two figures", two};

using measured = std::map<std::string, std::map<std::string, double>>;

}  // namespace

TEST_CASE("a score is the weighted geometric mean of how many times the best one's cost it is") {
  const auto r = rank(little, measured{{"slow", {{"provision_ms", 8}, {"read_mb_s", 1000}}},
                                       {"quick", {{"provision_ms", 2}, {"read_mb_s", 500}}}});
  REQUIRE(r.size() == 2);
  CHECK(r[0].name == "quick");
  CHECK(r[0].score == Approx(std::pow(2, 1 / 4.0)));
  CHECK(r[1].score == Approx(std::pow(4, 3 / 4.0)));
  CHECK(r[0].parts[1].times == Approx(2));  // more is better: half the throughput is twice the cost
  const std::string why = explain(r);
  CHECK(why.find("quick before slow, for ") == 0);
  CHECK(why.find("2.00 ms against 8.00 ms (weight 3)") != why.npos);
  CHECK(why.find("though a file read by twenty containers: 500 MB/s against 1000 MB/s (weight 1)") != why.npos);
}

TEST_CASE("what nobody feels makes no difference, and two alike stand by name") {
  const auto r = rank(little, measured{{"b", {{"provision_ms", 0.001}}}, {"a", {{"provision_ms", 0.1}}}});
  CHECK(r[0].name == "a");
  CHECK(r[0].score == Approx(1));
  CHECK(r[1].score == Approx(1));
  CHECK(r[0].parts.size() == 1);  // nobody has the other figure
  CHECK(explain(r).find("differ by less than a tenth") != std::string::npos);
}

TEST_CASE("a figure that one has not counts as the worst one's") {
  const auto r = rank(little, measured{{"all", {{"provision_ms", 2}, {"read_mb_s", 100}}},
                                       {"some", {{"provision_ms", 2}}},
                                       {"best", {{"provision_ms", 2}, {"read_mb_s", 400}}}});
  CHECK(r[0].name == "best");
  CHECK(r[1].score == Approx(r[2].score));
  CHECK(r[2].name == "some");
  CHECK(std::isnan(r[2].parts[1].value));
}

TEST_CASE("there may be one driver, or none") {
  CHECK(rank(little, {}).empty());
  const auto r = rank(little, measured{{"only", {{"provision_ms", 7}}}});
  REQUIRE(r.size() == 1);
  CHECK(r[0].score == Approx(1));
  CHECK(explain(r).empty());
  CHECK(rank(little, measured{{"nothing", {}}})[0].score == Approx(1));
}

TEST_CASE("each purpose weighs figures that there are, each once") {
  std::set<std::string_view> known, names;
  for (const figure& f : figures()) CHECK(known.insert(f.key).second);
  for (const purpose& p : purposes()) {
    CHECK(names.insert(p.name).second);
    CHECK(&find_purpose(p.name) == &p);
    std::set<std::string_view> weighed;
    for (const weight& w : p.weights) {
      CHECK(known.contains(w.key));
      CHECK(w.weight > 0);
      CHECK(weighed.insert(w.key).second);
    }
  }
  CHECK_THROWS_WITH(find_purpose("nothing"),
                    Catch::Contains("anything, build, database, serverless, desktop, density"));
}
