# SPDX-License-Identifier: Apache-2.0
# A stranger's repository against the installed package: install to a new prefix, configure, build, run its suites.
#   cmake -D BUILD=<kit's build tree> -D SOURCE=<plugins/third_party> -D COMPILER=<c++> [-D FLAGS=...] -P run.cmake
execute_process(COMMAND id -u OUTPUT_VARIABLE user OUTPUT_STRIP_TRAILING_WHITESPACE)
if(NOT user EQUAL 0)
  message("skipped: the conformance suites need root")
  return()
endif()

execute_process(COMMAND mktemp -d /tmp/kit-third-party-XXXXXX OUTPUT_VARIABLE scratch OUTPUT_STRIP_TRAILING_WHITESPACE)
set(failed "")
function(step name)
  if(failed)
    return()
  endif()
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
  message("${output}")
  if(NOT result EQUAL 0)
    set(failed "${name}" PARENT_SCOPE)
  endif()
endfunction()

step(install ${CMAKE_COMMAND} --install ${BUILD} --prefix ${scratch}/prefix)
step(configure ${CMAKE_COMMAND} -S ${SOURCE} -B ${scratch}/build -DCMAKE_PREFIX_PATH=${scratch}/prefix
  -DCMAKE_CXX_COMPILER=${COMPILER} -DCMAKE_CXX_FLAGS=${FLAGS})
step(build ${CMAKE_COMMAND} --build ${scratch}/build)
step(suites ${CMAKE_CTEST_COMMAND} --test-dir ${scratch}/build --output-on-failure)
file(REMOVE_RECURSE ${scratch})
if(failed)
  message(FATAL_ERROR "${failed} failed")
endif()
